"""Training runs: plan, trainer, losses, optimiser, checkpoints, records."""

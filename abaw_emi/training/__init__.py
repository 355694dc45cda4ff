"""Training runs: plan, trainer, losses, optimiser, checkpoints, several processes."""

"""Training runs: plan, trainer, losses, optimiser, checkpoints, records."""

import abaw_emi.models  # noqa: F401  # before transformers: it hides a torchaudio that does not load

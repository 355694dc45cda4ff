"""Predictions of trained runs."""

import abaw_emi.models  # noqa: F401  # before transformers: it hides a torchaudio that does not load

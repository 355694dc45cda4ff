"""The model: encoders, branches, fusion, weights."""

from abaw_emi.core.installation import load_torchaudio

load_torchaudio()  # before transformers loads it, which fails where torchaudio does

"""The model: encoders, branches, fusion, weights."""

"""Encoders of sound and text: what makes frames of a waveform or of words."""

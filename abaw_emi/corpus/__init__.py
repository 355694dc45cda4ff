"""The room from disk to clips: where files lie, what they are, decoding, resampling, cutting.

`layout` is light (standard library only); `decoding` and `clips` need PyAV and soxr.
Conventions: a waveform is float32 (T,), mono; `sample_rate` is in Hz, `max_seconds` in s; nothing is
ever written into the data folder, and no file is repaired: it reads whole, or its name is reported.
"""

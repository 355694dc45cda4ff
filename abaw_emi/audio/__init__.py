"""From a file to a waveform: formats, decoding, clips, the cache of decoded sound."""

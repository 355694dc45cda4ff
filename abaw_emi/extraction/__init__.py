"""Feature folders and transcripts, made with any encoder."""

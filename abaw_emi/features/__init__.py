"""Feature folders, faces and transcripts: found by id, read and checked."""

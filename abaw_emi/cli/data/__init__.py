"""Commands on the data folder: audit, faces, extract, transcribe."""

"""Commands on the data folder: audit, extract, transcribe."""

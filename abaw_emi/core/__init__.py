"""What every package uses: constants, errors, ids, files, hashes, progress, signals."""

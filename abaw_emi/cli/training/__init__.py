"""Commands that train: train, import-weights, runs, tables."""

"""Commands that predict: predict, ensemble."""

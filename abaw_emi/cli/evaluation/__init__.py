"""Commands that judge predictions: score, compare, report."""

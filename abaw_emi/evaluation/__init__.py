"""Pearson's correlation, intervals, significance tests, comparisons, diagnostics. Needs no torch."""

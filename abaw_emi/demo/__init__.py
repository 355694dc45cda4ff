"""The demo: a synthetic corpus in the official layout, and a baseline to beat."""

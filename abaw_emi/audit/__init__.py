"""The audit of a data folder: every problem, what it means and what to do."""

"""The systems of the paper's tables, trained and scored beside the published numbers."""

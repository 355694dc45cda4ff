"""The figures of a report: the look that they share, and a module for each section of the page."""

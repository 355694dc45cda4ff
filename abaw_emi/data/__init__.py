"""Tables and the data folder: read, checked, matched by Filename."""

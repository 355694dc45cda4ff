"""From a data folder to a submission in one command, and what its presets need before they can be trained."""

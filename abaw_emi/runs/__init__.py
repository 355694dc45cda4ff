"""Run folders: what they hold, and summaries of them."""

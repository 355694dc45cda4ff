"""Predictions of several systems, combined and scored out of fold. Needs no torch."""

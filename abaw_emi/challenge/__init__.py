"""The light wing: facts, tables, scoring, ensembling, checking and submitting; no torch."""

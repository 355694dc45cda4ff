"""Submissions: written, checked, recorded in the ledger. Needs no torch."""

"""Commands on submissions: submit, check, ledger."""

"""How records leave a ledger: as batches, once more as the same batches, or issued again where they can't."""

"""The HTTP calls of robots: registration, keys, certificates, batches, the mark, events."""

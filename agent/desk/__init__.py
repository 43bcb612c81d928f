"""The operator's side of a fleet: who is there, commands that are signed and sent, what robots answer."""

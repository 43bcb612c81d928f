"""`bench engines`: each engine against the plain way of doing the same with the same weights."""

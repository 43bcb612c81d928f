"""The operator, his commands, and whoever attacks them."""

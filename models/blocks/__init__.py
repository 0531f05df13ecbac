"""Blocks that families are built of; each takes the previous tensor, sizes as data, and a name prefix."""

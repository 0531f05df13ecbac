"""Computers that run bundles: how they are reached, and what is put there."""

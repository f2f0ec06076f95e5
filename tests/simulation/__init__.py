"""Whole clusters of real engines on virtual time."""

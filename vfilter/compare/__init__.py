"""Comparison with the original and with other filters."""

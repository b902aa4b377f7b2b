"""Metrics of a checkpoint on a split, with their uncertainty."""

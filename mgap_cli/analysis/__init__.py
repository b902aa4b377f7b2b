"""Analyses of gaps and scores: which samples are imbalanced, and how samples moved."""

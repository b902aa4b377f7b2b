"""Comparison of methods over data sets and seeds: plan, cells, tuning, Slurm jobs and statistics."""

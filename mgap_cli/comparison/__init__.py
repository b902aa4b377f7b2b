"""Which method is better, on which data, and whether the difference is real: plan, cells, statistics."""

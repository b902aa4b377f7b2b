"""Modality imbalance by measures other than the gap, one a module, each with its source and formula."""

"""What a checkpoint is worth on a split, with uncertainty."""

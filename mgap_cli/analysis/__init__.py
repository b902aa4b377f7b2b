"""What follows from gaps and scores: who the imbalanced samples are, and how they moved."""

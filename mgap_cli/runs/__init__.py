"""The run folder: its layout, its lock, its checkpoints, and how they are read."""

"""From media to store: sources list clips, decode and features read them, build writes the store."""

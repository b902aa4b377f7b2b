"""From media files to a store: sources list clips, decoders read them, and build writes the store."""

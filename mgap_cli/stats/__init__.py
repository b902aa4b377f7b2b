"""Statistics on plain arrays. These modules know nothing of modalities, stores or networks."""

"""Rich tables for a terminal, one module per command or document."""

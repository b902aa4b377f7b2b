"""What a user reads: tables, terminal plot, figures."""

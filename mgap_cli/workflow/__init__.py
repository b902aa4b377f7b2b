"""What commands do, one module per job, without options or parsing."""

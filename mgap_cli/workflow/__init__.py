"""The work of the commands, one module per job, without options and parsing."""

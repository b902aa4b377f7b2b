"""The subcommands, a file each: parse, build, run, report."""

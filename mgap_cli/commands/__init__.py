"""The commands, one file each: parse the options, build what is needed, run it, print the result."""

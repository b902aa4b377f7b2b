"""Checks of this machine and its installation, for `mgap doctor`. None of them needs a working torch."""

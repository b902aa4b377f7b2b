"""Builds a store from the clips of a data set: in parallel, resumable, verified."""

"""Build a store from the clips of a data set. The build is parallel, resumable and verified."""

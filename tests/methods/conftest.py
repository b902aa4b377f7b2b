from helpers.program import finished, other_store, run, store  # noqa: F401  (fixtures)

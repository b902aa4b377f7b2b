from helpers.program import store  # noqa: F401  (fixture)

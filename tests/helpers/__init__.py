"""Helpers of several tests: a real `mgap` process, small stores, encoded media."""

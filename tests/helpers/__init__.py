"""What several tests need: a real `mgap` process, small stores, encoded media."""

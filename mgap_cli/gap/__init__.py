"""The modality gap: per-sample scores, the mixture over them, and what the mixture says."""

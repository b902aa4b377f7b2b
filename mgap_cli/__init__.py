"""mgap: measure modality imbalance in multimodal classifiers, per sample, and reduce it."""

__version__ = "0.1.0"

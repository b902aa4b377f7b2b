"""mgap: measure modality imbalance in audio-visual classifiers, sample by sample, and train it away."""

__version__ = "0.1.0"

"""The two-branch network: an encoder a modality, a fusion, and a linear head a modality."""

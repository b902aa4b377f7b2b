"""The two-branch network: one encoder per modality, a fusion, and one linear head per modality."""

"""Modalities as data: one record per modality. What a kind does is looked up by kind where it is done."""

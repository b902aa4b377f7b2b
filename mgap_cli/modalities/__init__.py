"""One record per modality. Code that depends on the kind of a modality finds its part in a table by kind."""

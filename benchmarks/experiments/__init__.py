"""One module an experiment; each holds its ``EXPERIMENT``."""

"""Iterative and direct inversion of the forward model in physics; no files, no registry, no tiles."""

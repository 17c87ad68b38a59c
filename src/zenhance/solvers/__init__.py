"""Iterative and direct inversion of the forward model; no files, no registry, no tiles."""

"""Diffusion over blur and noise: how its network learns, and how it is run over a tile."""

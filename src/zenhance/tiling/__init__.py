"""Tiles: geometry (integers only), memory budget, running a callable over tiles."""

"""Tiles: geometry (integers only), memory budget, running a callable over tiles, the device it runs on. Knows no method."""

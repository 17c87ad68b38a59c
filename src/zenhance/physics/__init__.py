"""Image formation as operators with adjoints: PSF, blur, noise. Lengths are micrometres."""

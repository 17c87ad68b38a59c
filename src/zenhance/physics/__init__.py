"""Image formation as operators with their adjoints: point spread functions, blur, noise. Lengths are micrometres."""

"""Tables and pictures that any user can rerun."""

"""Specimens with known truth, and the microscope that images them."""

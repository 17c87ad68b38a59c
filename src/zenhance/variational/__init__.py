"""Variational auto-encoders whose decoder ends in the microscope: how they learn, and how they draw from a volume's posterior."""

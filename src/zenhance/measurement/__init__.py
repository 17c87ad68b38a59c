"""What is measured on a volume before a method runs."""

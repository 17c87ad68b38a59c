"""What at least two learnt methods use."""

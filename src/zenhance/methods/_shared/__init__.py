"""Parts that at least two learnt methods use."""

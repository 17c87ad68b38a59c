"""Parts that at least two trained methods use."""

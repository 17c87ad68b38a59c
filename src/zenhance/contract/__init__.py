"""What a method declares, how it is found, and how what it learnt is kept."""

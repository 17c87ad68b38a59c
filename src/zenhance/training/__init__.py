"""Learning: recipes, patches, one loop for all methods, and a state that survives being killed."""

"""Networks that learn filaments without a truth: rows, trainings, rivals and scores."""

"""What was learnt, on disk: card, header, checkpoint, catalogue, installing."""

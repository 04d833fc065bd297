"""Published sequence models trained on the same events, to hold ours against."""

"""What to do next with a dataset, in plain words, each with the measurement that speaks for it."""

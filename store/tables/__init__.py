"""Tables of samples: read, written, joined, compared and split, in memory."""

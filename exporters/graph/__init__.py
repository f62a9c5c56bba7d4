"""A network's graph is read, cut, mended and written: what every source has in common."""

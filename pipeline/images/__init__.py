"""Images: where they are, how they are listed and read, and how their bytes become pixels."""

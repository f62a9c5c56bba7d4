"""Which images and labels a person should look at, and in what order."""

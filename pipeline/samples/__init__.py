"""Labels, splits and targets: which rows train a head and which rows test it."""

"""From rows and labels to a head: which samples, which features, which figures."""

"""Networks from torch."""

"""The other estimators of penult's own."""

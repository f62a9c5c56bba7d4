"""Backbones, taps and heads beside each other on the same held-out images."""

"""Comparison of backbones, taps and heads on the same held-out images.

Public modules: `compare` (every head on every choice of features), `choosing` (the head for "auto", and the threshold
for "unsure"), `held_out` (cached held-out predictions) and `options`.
"""

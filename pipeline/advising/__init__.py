"""Advice on what to do next with a dataset.

Public modules: `advise` (the API), `advice` (sentences and commands), `measurements` (what was measured),
`learning_curve`, `imagenet_distance` and `options`.
"""

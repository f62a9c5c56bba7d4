"""Finds images and labels that a person should check.

Public modules: `review` (the list of images to check), `data_checks` (warnings before training), `labels` (label
errors, and images to label next), `neighbours` (near duplicates and outliers) and `options`.
"""

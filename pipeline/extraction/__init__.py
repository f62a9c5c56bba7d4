"""Extracts features: lists images, reads and decodes them, runs the backbone and commits the rows.

Other packages use `extract` (one job), `job_file` (a job from a TOML file), `options`, `receipt` and `worker`.
"""

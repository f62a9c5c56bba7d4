"""The engine for a Ray cluster: `engine.RayEngine`, which is loaded by name when a job uses it."""

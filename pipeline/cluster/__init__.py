"""The engine that runs a job on a Ray cluster."""

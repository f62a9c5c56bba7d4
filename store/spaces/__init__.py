"""Spaces: durable rows under keys. ``space.Space`` is public; the other modules serve it."""

"""Stores in all earlier versions of the format."""

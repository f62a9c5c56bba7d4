"""The source ``keras:``: networks of keras.applications, and models that Keras saved."""

from penult.exporters.sources.keras.source import read_keras

__all__ = ["read_keras"]

"""A transformer that embeds images, as the first step of a scikit-learn pipeline.

>>> from penult.sklearn import Embedder
>>> Embedder("efficientnet-lite0")
Embedder()
"""

from penult.pipeline.embedder import Embedder

__all__ = ["Embedder"]

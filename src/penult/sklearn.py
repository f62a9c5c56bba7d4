"""What penult adds to scikit-learn's pipelines: images as the first step.

>>> from penult.sklearn import Embedder
>>> Embedder("efficientnet-lite0")
Embedder()
"""

from penult.pipeline.embedder import Embedder

__all__ = ["Embedder"]

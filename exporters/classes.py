"""The names of the 1000 ImageNet classes."""

import json
from functools import cache
from importlib import resources

__all__ = ["imagenet_classes"]


@cache
def imagenet_classes() -> tuple[str, ...]:
    """Returns the 1000 class names in the order of the logits.

    >>> imagenet_classes()[1], len(set(imagenet_classes()))
    ('goldfish', 1000)
    """
    text = resources.files("penult.exporters").joinpath("imagenet_classes.json").read_text(encoding="utf-8")
    return tuple(json.loads(text))

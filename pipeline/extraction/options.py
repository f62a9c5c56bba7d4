"""The options of an extraction, as plain values that the catalog stores with the receipt."""

from dataclasses import dataclass
from typing import Literal, get_args

from penult.defaults import IMAGE_MEGABYTES, IMAGE_SECONDS, PROVIDERS, VIEWS
from penult.errors import InputError
from penult.pipeline.images.sharding import parse_shard

Dtype = Literal["float16", "float32"]
EngineName = Literal["local", "ray"]


@dataclass(frozen=True)
class ExtractOptions:
    """The options of an extraction. Only ``dtype`` and ``views`` change features; both are part of the space.

    ``views`` are names separated by commas; each view has its own space. ``shard`` is ``i/n``, the i-th of n parts of
    the images. ``metrics`` is a file for metrics of the running job. An image that takes more than ``image_seconds`` or
    ``image_megabytes`` to decode is recorded in the ledger.

    The ``engine`` ray uses the Ray cluster at ``address``. Without an address it uses the cluster of the environment,
    or starts one on this machine. By default it starts as many ``actors`` as the cluster has resources for;
    ``workers`` is then the number per actor. With ``decoders``, each actor only runs the backbone, and this many tasks
    per actor decode on any node.
    """

    provider: str = "auto"
    workers: int | None = None
    batch_size: int | None = None
    dtype: Dtype = "float16"
    strict: bool = False
    retry_failed: bool = False
    rehash: bool = False
    limit: int | None = None
    max_seconds: float | None = None
    shard: str | None = None
    metrics: str | None = None
    image_seconds: float = IMAGE_SECONDS
    image_megabytes: int = IMAGE_MEGABYTES
    views: str = VIEWS
    engine: EngineName = "local"
    address: str | None = None
    actors: int | None = None
    decoders: int | None = None

    def __post_init__(self) -> None:
        for name in ("workers", "batch_size", "limit", "image_megabytes", "actors", "decoders"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise InputError(f"The option {name} is {number}", expected="1 or more, or None")
        for name in ("max_seconds", "image_seconds"):
            seconds = getattr(self, name)
            if seconds is not None and not 0 < seconds < 1e9:
                raise InputError(f"The option {name} is {seconds}", expected="more than 0, or None")
        if self.shard is not None:
            parse_shard(self.shard)
        for name, names in (
            ("provider", ("auto", *PROVIDERS)),
            ("dtype", get_args(Dtype)),
            ("engine", get_args(EngineName)),
        ):
            if getattr(self, name) not in names:
                raise InputError(f"The {name} is {getattr(self, name)!r}", expected=f"one of {', '.join(names)}")
        for name in ("address", "actors", "decoders"):
            if self.engine != "ray" and getattr(self, name) is not None:
                raise InputError(
                    f"The option {name} was given with the engine {self.engine}",
                    expected="this option only with the engine ray",
                    remedy=f"use --engine ray, or remove --{name}",
                )
        from penult.pipeline.images.views import parse_views

        parse_views(self.views)

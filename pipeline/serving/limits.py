"""How much one request, and all of them together, may ask of the server."""

from dataclasses import dataclass, fields

from penult.errors import InputError

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """What is refused, so that no request takes the memory or the time of all others.

    ``image_bytes``, ``pixels`` and ``images`` bound what a request brings, ``request_bytes`` its whole body, and
    ``body_seconds`` how long it may take to arrive; an image is given up after ``decode_seconds``. ``requests`` and
    ``waiting_images`` bound what is under way at once; whoever comes then is asked to come again. ``stop_seconds`` is
    how long a server that was told to stop waits for the requests that it has.
    """

    image_bytes: int = 20_000_000
    pixels: int = 50_000_000
    images: int = 64
    request_bytes: int = 64_000_000
    body_seconds: float = 60.0
    decode_seconds: float = 10.0
    requests: int = 64
    waiting_images: int = 512
    stop_seconds: int = 30

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) <= 0:
                raise InputError(f"The limit {field.name} is {getattr(self, field.name)}", expected="more than 0")

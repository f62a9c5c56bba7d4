"""Limits of a single request and of all requests together."""

from dataclasses import dataclass, fields

from penult.errors import InputError

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """Limits that keep one request from using the memory or time of all others.

    ``image_bytes`` and ``pixels`` limit an image, ``images`` and ``request_bytes`` a request, ``body_seconds`` the time
    to receive its body, and ``decode_seconds`` the time to decode an image. ``requests`` and ``waiting_images`` limit
    concurrent work; further requests get status 503. After a stop signal, the server waits up to ``stop_seconds`` for
    running requests.
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

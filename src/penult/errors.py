"""All errors that penult raises on purpose. ``except PenultError`` catches every one of them.

::

    PenultError
    ├── InputError (ValueError)                 an input cannot be used: no images, a single class, an invalid option
    ├── UnknownNameError (LookupError)          no backbone, head, tap, dataset, space or view has this name
    ├── MissingFileError (FileNotFoundError)    a file or folder does not exist
    ├── MissingExtraError (ImportError)         an optional library is required and not installed
    ├── ImageError (ValueError)                 one image cannot be decoded
    ├── ProviderError (RuntimeError)            the requested device cannot be used; penult does not fall back silently
    ├── EngineError (RuntimeError)              the processes of a cluster failed
    ├── BackboneError (ValueError)              a file is not a backbone, or does not match its card
    │   └── ExportMismatchError                 the outputs of an exported network differ from those of its source
    ├── HeadError (ValueError)                  a head cannot be fitted, saved or loaded
    │   ├── SpaceMismatchError                  features are from another space than the head was trained on
    │   └── BundleMismatchError                 the predictions of a bundled model differ from those of its head
    └── StoreError
        ├── StoreFormatError (ValueError)       a folder is not a store, or a store of another version
        ├── StoreDamagedError (OSError)         committed data is missing or fails its checksum
        ├── StoreWriteError (OSError)           the disk is full, read-only, or cannot flush data
        └── RowsRefusedError (ValueError)       rows have the wrong width, are not finite, or contradict each other
"""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import ClassVar, Self

__all__ = [
    "BackboneError",
    "BundleMismatchError",
    "EngineError",
    "ExportMismatchError",
    "HeadError",
    "ImageError",
    "InputError",
    "MissingExtraError",
    "MissingFileError",
    "PenultError",
    "ProviderError",
    "RowsRefusedError",
    "SpaceMismatchError",
    "StoreDamagedError",
    "StoreError",
    "StoreFormatError",
    "StoreWriteError",
    "UnknownNameError",
]


class PenultError(Exception):
    """States what happened, what was expected, and what to do, each in its own sentence.

    >>> str(PenultError("C is -1", expected="a number above 0", remedy="leave C out"))
    'C is -1. Expected: a number above 0. What to do: leave C out.'
    """

    def __init__(self, happened: str, *, expected: str = "", remedy: str = "") -> None:
        parts = [happened]
        if expected:
            parts.append(f"Expected: {expected}")
        if remedy:
            parts.append(f"What to do: {remedy}")
        super().__init__(" ".join(part if part.endswith((".", "?", "!")) else part + "." for part in parts))


class InputError(PenultError, ValueError):
    """An input cannot be used."""


class UnknownNameError(PenultError, LookupError):
    """A name is not known."""

    @classmethod
    def among(cls, kind: str, name: str, names: Iterable[str]) -> Self:
        """Returns the error for ``name``, which suggests the closest of the known ``names``.

        >>> raise UnknownNameError.among("head", "logistc", ["logistic", "lda"])
        Traceback (most recent call last):
            ...
        penult.errors.UnknownNameError: No head is called 'logistc'. Expected: one of lda, logistic. \
What to do: did you mean 'logistic'?
        """
        known = sorted(names)
        close = get_close_matches(name, known, n=1)
        return cls(
            f"No {kind} is called {name!r}",
            expected=f"one of {', '.join(known)}" if known else f"there is no {kind} yet",
            remedy=f"did you mean {close[0]!r}?" if close else "",
        )


class MissingFileError(PenultError, FileNotFoundError):
    """A file or folder does not exist."""


class MissingExtraError(PenultError, ImportError):
    """An optional library is required and not installed."""

    URL_EXTRAS: ClassVar = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs"}
    """The extras that install what URLs of these schemes need; all others need ``remote``."""

    @classmethod
    def of(cls, library: str, extra: str, purpose: str) -> Self:
        """Returns the error that names the extra which installs ``library``."""
        return cls(f"{purpose} needs {library}, which is not installed", remedy=f"pip install 'penult[{extra}]'")


class ImageError(PenultError, ValueError):
    """One image cannot be decoded. The message becomes the reason in the ledger."""


class ProviderError(PenultError, RuntimeError):
    """The requested device cannot be used. Penult does not fall back to another one silently."""


class EngineError(PenultError, RuntimeError):
    """The processes of a cluster failed."""


class BackboneError(PenultError, ValueError):
    """A file is not a backbone, or does not match its card."""


class ExportMismatchError(BackboneError):
    """The outputs of an exported network differ from those of its source."""


class HeadError(PenultError, ValueError):
    """A head cannot be fitted, saved or loaded."""


class SpaceMismatchError(HeadError):
    """Features are from another space than the head was trained on."""


class BundleMismatchError(HeadError):
    """The predictions of a bundled model differ from those of its head."""


class StoreError(PenultError):
    """Something is wrong with a store."""


class StoreFormatError(StoreError, ValueError):
    """A folder is not a store, or a store of another version."""


class StoreDamagedError(StoreError, OSError):
    """Committed data is missing or fails its checksum."""


class StoreWriteError(StoreError, OSError):
    """The disk is full, read-only, or cannot flush data."""


class RowsRefusedError(StoreError, ValueError):
    """Rows have the wrong width, are not finite, or contradict each other."""


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message, or the name of its class if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

"""Every error that penult raises on purpose, so that one ``except PenultError`` catches them all.

::

    PenultError
    ├── InputError (ValueError)                 what was given cannot be used: no images, one class only, a bad option
    ├── UnknownNameError (LookupError)          no backbone, head, tap, dataset, space or view has this name
    ├── MissingFileError (FileNotFoundError)    a file or folder that was named is not there
    ├── MissingExtraError (ImportError)         an optional library is needed and not installed
    ├── ImageError (ValueError)                 one image cannot be decoded
    ├── ProviderError (RuntimeError)            the asked device cannot be used, and no other is taken in silence
    ├── EngineError (RuntimeError)              the processes of a cluster cannot do the work
    ├── BackboneError (ValueError)              a file is no backbone, or not the one that its card says
    │   └── ExportMismatchError                 an exported network does not give what its source gives
    ├── HeadError (ValueError)                  a head cannot be fitted, saved or loaded
    │   ├── SpaceMismatchError                  features of one space were offered where another's belong
    │   └── BundleMismatchError                 a bundled model does not give what its head gives
    └── StoreError
        ├── StoreFormatError (ValueError)       no store, one of another version, or made by something else
        ├── StoreDamagedError (OSError)         committed data is missing or fails its checksum
        ├── StoreWriteError (OSError)           the disk is full, read-only, or refuses to make data durable
        └── RowsRefusedError (ValueError)       rows of the wrong width, not finite, or contradicting themselves
"""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Self

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
    """Says what happened, what was expected, and what to do, each a sentence of its own.

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
    """What was given cannot be used."""


class UnknownNameError(PenultError, LookupError):
    """A name that nothing bears."""

    @classmethod
    def among(cls, kind: str, name: str, names: Iterable[str]) -> Self:
        """Makes the error for ``name``, with the closest of the known ``names`` as advice.

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
    """A file or folder that was named is not there."""


class MissingExtraError(PenultError, ImportError):
    """An optional library is needed and not installed."""

    @classmethod
    def of(cls, library: str, extra: str, purpose: str) -> Self:
        """Makes the error that names the extra which brings ``library``."""
        return cls(f"{purpose} needs {library}, which is not installed", remedy=f"pip install 'penult[{extra}]'")


class ImageError(PenultError, ValueError):
    """One image cannot be decoded; its message is the reason in the ledger."""


class ProviderError(PenultError, RuntimeError):
    """The asked device cannot be used, and no other is taken in silence."""


class EngineError(PenultError, RuntimeError):
    """The processes of a cluster cannot do the work."""


class BackboneError(PenultError, ValueError):
    """A file is no backbone, or not the one that its card says."""


class ExportMismatchError(BackboneError):
    """An exported network does not give what its source gives."""


class HeadError(PenultError, ValueError):
    """A head cannot be fitted, saved or loaded."""


class SpaceMismatchError(HeadError):
    """Features of one space were offered where another's belong."""


class BundleMismatchError(HeadError):
    """A bundled model does not give what its head gives."""


class StoreError(PenultError):
    """Something is wrong with a store."""


class StoreFormatError(StoreError, ValueError):
    """No store, one of another version, or made by something else."""


class StoreDamagedError(StoreError, OSError):
    """Committed data is missing or fails its checksum."""


class StoreWriteError(StoreError, OSError):
    """The disk is full, read-only, or refuses to make data durable."""


class RowsRefusedError(StoreError, ValueError):
    """Rows of the wrong width, not finite, or contradicting themselves."""

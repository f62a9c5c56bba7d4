"""What every node of a cluster must have in common with the others, and errors that say which node lacks it."""

import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from penult.errors import EngineError, PenultError
from penult.pipeline.images.image_file import ImageFile


def library_versions() -> str:
    """Tells what decodes and runs here, for the last bits of a feature depend on it."""
    import onnxruntime

    return f"onnxruntime {onnxruntime.__version__} and Pillow {version('pillow')}"


def require_same_versions(expected: str, found: str) -> None:
    """Raises EngineError where nodes would make features that differ in the last bits."""
    if expected != found:
        raise EngineError(
            f"One node has {expected}, and another {found}",
            expected="the same on all, since features differ in their last bits",
            remedy="install the same versions on all nodes",
        )


def require_image_folder(files: Sequence[ImageFile]) -> None:
    """Raises EngineError where this node has no such folder as the first of the files lies in, if it is a plain file.

    Without that, all that is handed to the node would end in the ledger.
    """
    plain = next((file for file in files if file.reader is None), None)
    if plain is not None and not Path(plain.path).parent.is_dir():
        raise EngineError(
            f"There is no folder {Path(plain.path).parent}, where the driver has found images",
            expected="one file system with the images, at the same place on all nodes",
            remedy="mount it there, or name the images by a URL that all nodes reach; then run the same again",
        )


@contextmanager
def naming_the_node() -> Iterator[None]:
    """Adds to what goes wrong on which node it does."""
    try:
        yield
    except PenultError as error:
        raise type(error)(f"On the node {platform.node()}: {error}") from error

"""The workload that the rig runs while it injects faults."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from penult.store import Space, open_store
from penult.store.files.local import LocalPath
from tests.store.rig.samples import SPEC, add

Step = tuple[str, Callable[[], object]]
ALL_BATCHES = {0, 1, 2, 3}


def space_at(path: Path) -> Space:
    """Opens the space like another process."""
    return open_store(path).space(SPEC)


def adding(path: Path, batch: int) -> Step:
    """Returns the step that adds a batch; its name acknowledges the batch."""
    return f"add {batch}", lambda: add(space_at(path), batch)


def steps(path: Path) -> Iterator[Step]:
    """Yields the steps of the workload."""
    yield "make", lambda: open_store(path)
    yield "make space", lambda: space_at(path)
    yield adding(path, 0)
    yield adding(path, 1)
    yield "checkpoint", lambda: space_at(path).checkpoint()
    yield adding(path, 2)
    yield "compact", lambda: space_at(path).compact()
    yield adding(path, 3)
    yield "collect", lambda: space_at(path).collect(grace_seconds=0)
    yield adding(path, 0)
    yield "compact", lambda: space_at(path).compact()
    yield "collect", lambda: space_at(path).collect(grace_seconds=0)
    yield "verify", lambda: space_at(path).verify(repair=True)


def steps_after_dead_processes(path: Path) -> Iterator[Step]:
    """Yields steps in which processes die between a rename and the flush of the folder."""
    yield adding(path, 0)
    yield "add that dies", lambda: _dying_at("shards", lambda: add(space_at(path), 1))
    yield "checkpoint", lambda: space_at(path).checkpoint()
    yield adding(path, 2)
    yield "compaction that dies", lambda: _dying_at("manifests", lambda: space_at(path).compact())
    yield "collect", lambda: space_at(path).collect(grace_seconds=0)
    yield adding(path, 3)


class DiedError(Exception):
    """Simulates the death of a process."""


def _dying_at(folder_name: str, step: Callable[[], object]) -> None:
    with _flushing(folder_name):
        try:
            step()
        except DiedError:
            return
    raise AssertionError(f"the step never flushed {folder_name}")


@contextmanager
def _flushing(folder_name: str) -> Iterator[None]:
    flush = LocalPath.sync_folder

    def flush_or_die(folder: LocalPath) -> None:
        if folder.name == folder_name:
            raise DiedError
        flush(folder)

    LocalPath.sync_folder = flush_or_die  # type: ignore[assignment,method-assign]
    try:
        yield
    finally:
        LocalPath.sync_folder = flush  # type: ignore[method-assign]

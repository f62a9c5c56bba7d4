"""Chunks for actors: of the requested size, and repeated in smaller parts after a loss."""

from collections.abc import Generator

from penult.pipeline.cluster.chunks import TRIES, Chunk, Chunks
from penult.pipeline.images.image_file import ImageFile


def _files(count: int) -> list[ImageFile]:
    return [ImageFile(str(number), 1, 1) for number in range(count)]


def _batches(*sizes: int) -> Generator[list[ImageFile]]:
    files = iter(_files(sum(sizes)))
    for size in sizes:
        yield [next(files) for _ in range(size)]


def _chunk(chunks: Chunks, size: int, *, is_alone: bool = True) -> list[str] | None:
    chunk = chunks.next(size, is_alone=is_alone)
    return None if chunk is None else [file.path for file in chunk.files]


def test_chunks_are_whole_batches_of_the_requested_size() -> None:
    chunks = Chunks(_batches(2, 2, 2, 1))
    assert _chunk(chunks, 3) == ["0", "1", "2", "3"]
    assert not chunks.is_over
    assert _chunk(chunks, 100) == ["4", "5", "6"]
    assert chunks.is_over
    assert _chunk(chunks, 1) is None


def test_files_claimed_by_other_jobs_are_requested_again() -> None:
    chunks = Chunks(_batches(2, 0, 0, 3))
    assert _chunk(chunks, 100) == ["0", "1"]
    assert chunks.is_waiting
    assert _chunk(chunks, 100) is None
    assert not chunks.is_over
    assert chunks.is_idle
    chunks.resume()
    assert chunks.is_idle
    chunks.resume()
    assert not chunks.is_idle
    assert _chunk(chunks, 100) == ["2", "3", "4"]
    assert chunks.is_over


def test_an_image_that_ends_every_actor_is_given_up() -> None:
    """Each actor with file 1234 is lost and the others finish. All other files are done, with few losses."""
    chunks = Chunks(_batches(5000, 1000))
    done: list[str] = []
    given_up: list[ImageFile] = []
    lost = 0
    while not chunks.is_over:
        chunk = chunks.next(3000, is_alone=True)
        assert chunk is not None
        if any(file.path == "1234" for file in chunk.files):
            lost += 1
            given_up += chunks.take_back(chunk)
        else:
            done += [file.path for file in chunk.files]
    assert [file.path for file in given_up] == ["1234"]
    assert sorted(done, key=int) == [str(number) for number in range(6000) if number != 1234]
    assert lost <= 5 + TRIES


def test_only_an_image_that_was_alone_can_be_given_up() -> None:
    """A single image counts as the cause only if the actor had nothing else."""
    (file,) = _files(1)
    chunks = Chunks(_batches())
    assert chunks.take_back(Chunk([file])) == []
    for _ in range(TRIES - 1):
        assert chunks.next(1, is_alone=False) is None, "it waits for an actor that has nothing else"
        chunk = chunks.next(1, is_alone=True)
        assert chunk is not None
        assert chunk.is_suspect
        assert chunks.take_back(chunk) == []
    chunk = chunks.next(1, is_alone=True)
    assert chunk is not None
    assert chunks.take_back(chunk) == [file]

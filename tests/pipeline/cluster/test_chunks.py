"""What an actor is handed: chunks of the size asked, and those of a lost actor again, in ever smaller parts."""

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


def test_chunks_are_whole_loads_of_the_size_asked() -> None:
    chunks = Chunks(_batches(2, 2, 2, 1))
    assert _chunk(chunks, 3) == ["0", "1", "2", "3"]
    assert not chunks.is_over
    assert _chunk(chunks, 100) == ["4", "5", "6"]
    assert chunks.is_over
    assert _chunk(chunks, 1) is None


def test_where_others_have_the_rest_it_is_asked_for_again() -> None:
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


def test_one_image_that_ends_every_actor_is_found_and_given_up() -> None:
    """Each actor that is given file 1234 is lost; the others do their chunk. All else is done, and few are lost."""
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


def test_who_was_lost_in_company_is_no_culprit() -> None:
    """A single image counts as a culprit only where nothing else was with the actor."""
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

"""Reading an object by ranges; what is read in order is fetched ahead, for a request costs what a megabyte does."""

from collections.abc import Sequence

from penult.store.objects.places import ObjectPath

FIRST_BYTES = 1 << 19
AHEAD_BYTES = 1 << 23


class ObjectFile:
    """An object, read as an open file is."""

    def __init__(self, place: ObjectPath) -> None:
        self._place = place
        self.size_bytes = place.bucket.size(place.key)
        self._held = (0, b"")
        self._next = 0

    def close(self) -> None:
        """Lets go of what was fetched ahead."""
        self.drop_cache()

    def drop_cache(self) -> None:
        """Lets go of what was fetched ahead."""
        self._held = (0, b"")

    def read(self, size: int, offset: int) -> bytes:
        """Returns the bytes from ``offset`` on, fewer where the object ends."""
        start, data = self._held
        if not start <= offset <= offset + size <= start + len(data):
            ahead = FIRST_BYTES if offset == 0 else AHEAD_BYTES if offset == self._next else 0
            end = min(offset + max(size, ahead), self.size_bytes)
            start, data = offset, self._place.bucket.read(self._place.key, offset, end) if end > offset else b""
            self._held = (start, data)
        self._next = offset + size
        return data[offset - start : offset - start + size]

    def read_into(self, view: memoryview, offset: int) -> int:
        """Fills as much of ``view`` as there is from ``offset`` on, and returns how much."""
        data = self.read(len(view), offset)
        view[: len(data)] = data
        return len(data)

    def read_many(self, size: int, offsets: Sequence[int]) -> list[bytes]:
        """Returns many pieces of one size."""
        return self._place.bucket.read_many(self._place.key, size, offsets)

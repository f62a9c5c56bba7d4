"""The checksums of the catalog's rows, because SQLite hands out a flipped bit as if it had been written so."""

import json
import struct

import xxhash

NO_SEAL = -1
"""Equal to no seal, for those are 63 bits."""

_numbers = struct.Struct("<qq").pack


def text_bytes(text: str) -> bytes:
    """Returns ``text`` as bytes, losslessly for file names that are no valid Unicode too."""
    return text.encode("utf-8", "surrogatepass")


def file_seal(path: str, size: int, mtime_ns: int, key: bytes) -> int:
    """Returns the checksum of a row of seen files, -1 of values that no row has; a million take half a second."""
    try:
        return xxhash.xxh3_64_intdigest(_numbers(size, mtime_ns) + key + text_bytes(path)) >> 1
    except (TypeError, struct.error):  # a damaged row may hold values of any type
        return NO_SEAL


def row_seal(*values: str | int | None) -> int:
    """Returns the checksum of any other row, -1 of values that no row has.

    >>> row_seal("D", 1, None) == row_seal("D", 1, None)
    True
    >>> row_seal("D", 1, None) == row_seal("D", 2, None)
    False
    """
    try:
        return xxhash.xxh3_64_intdigest(json.dumps(values).encode()) >> 1
    except TypeError:  # a damaged row may hold values of any type
        return NO_SEAL

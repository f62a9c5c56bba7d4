"""How a piece of a column becomes bytes and comes back, the same bytes for the same values."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from penult.store.tables.columns import Kind, missing_in


def encode(values: NDArray[Any] | list[str], kind: Kind) -> bytes:
    """Returns one column's block as bytes that depend on the values alone."""
    if kind == "text":
        return _encode_text(list(values))
    column = np.asarray(values)
    missing = missing_in(column)
    filled = np.where(missing, 0, column) if missing.any() else column
    dtype = {"int": "<i8", "float": "<f8", "bool": "u1"}[kind]
    return np.packbits(missing).tobytes() + filled.astype(dtype).tobytes()


def decode(data: bytes, kind: Kind, rows: int) -> NDArray[Any]:
    """Returns the column that ``encode`` made into ``data``, an object array where values are missing."""
    if kind == "text":
        return _decode_text(data, rows)
    mask_bytes = (rows + 7) // 8
    missing = np.unpackbits(np.frombuffer(data, np.uint8, mask_bytes), count=rows).astype(np.bool_)
    dtype = {"int": "<i8", "float": "<f8", "bool": "u1"}[kind]
    values = np.frombuffer(data, dtype, rows, mask_bytes).astype({"int": "i8", "float": "f8", "bool": "?"}[kind])
    if not missing.any():
        return values
    if kind == "float":
        values[missing] = np.nan
        return values
    column = values.astype(object)
    column[missing] = None
    return column


def _encode_text(values: list[str | None]) -> bytes:
    # 0 stands for what is missing; the distinct texts follow from 1 on in the order of their first rows.
    numbers: dict[str | None, int] = {None: 0}
    codes = np.array([numbers.setdefault(value, len(numbers)) for value in values], "<u4")
    del numbers[None]
    texts = [text for text in numbers if text is not None]
    lengths = np.array([len(text) for text in texts], "<u4")
    head = np.array([len(texts)], "<u4")
    return b"".join(
        [head.tobytes(), codes.tobytes(), lengths.tobytes(), "".join(texts).encode("utf-8", "surrogatepass")]
    )


def _decode_text(data: bytes, rows: int) -> NDArray[Any]:
    count = int(np.frombuffer(data, "<u4", 1)[0])
    codes = np.frombuffer(data, "<u4", rows, 4)
    lengths = np.frombuffer(data, "<u4", count, 4 + 4 * rows)
    joined = data[4 + 4 * rows + 4 * count :].decode("utf-8", "surrogatepass")
    ends = np.cumsum(lengths, dtype=np.int64).tolist()
    texts = np.empty(count + 1, object)
    texts[1:] = [joined[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    column: NDArray[Any] = texts[codes]
    return column

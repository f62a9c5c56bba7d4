"""Numbers, times and names as text for people."""

import re
from collections.abc import Sequence
from datetime import datetime
from os import PathLike, fspath
from pathlib import PurePath

__all__ = [
    "counted",
    "figure",
    "file_label",
    "file_name",
    "listed",
    "moment",
    "percent",
    "points",
    "printable",
    "shortened",
    "shortlist",
]


_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffe\uffff]")
_SPACE = "\u202f"


def percent(share: float, digits: int = 1) -> str:
    """Returns a share as a percentage, never rounded up to 100 % or down to 0 %.

    >>> [percent(share).replace("\N{NARROW NO-BREAK SPACE}", " ") for share in (0.9876, 0.99996, 1.0)]
    ['98.8 %', '>99.9 %', '100 %']
    """
    if share in (0, 1):
        return f"{share:.0%}".replace("%", f"{_SPACE}%")
    step = 10.0**-digits
    value = 100 * share
    if value > 100 - step / 2:
        return f">{100 - step:.{digits}f}{_SPACE}%"
    if 0 < value < step / 2:
        return f"<{step:.{digits}f}{_SPACE}%"
    return f"{value:.{digits}f}{_SPACE}%"


def points(difference: float) -> str:
    """Returns a difference of shares in percentage points.

    >>> points(0.0312), points(0.01)
    ('3.1 points', '1.0 points')
    """
    return f"{abs(100 * difference):.1f} points"


def counted(n: int, one: str, many: str = "") -> str:
    """Returns a number with its noun.

    >>> counted(1, "image"), counted(1200, "image"), counted(0, "class", "classes")
    ('1 image', '1,200 images', '0 classes')
    """
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def listed(names: Sequence[str], most: int = 8) -> str:
    """Returns names for a sentence, joined with "and"; names after the first ``most`` are counted.

    >>> listed(["ant"]), listed(["ant", "bee", "wasp"]), listed(["a", "b", "c", "d"], most=2)
    ('ant', 'ant, bee and wasp', 'a, b and 2 more')
    """
    shown = list(names) if len(names) <= most else [*names[:most], f"{len(names) - most:,} more"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def figure(value: object) -> str:
    """Returns an integer with thousands separators, and anything else as text.

    >>> figure(12000), figure("many")
    ('12,000', 'many')
    """
    return f"{value:,}" if isinstance(value, int) else str(value)


def moment(value: object) -> str:
    """Returns an ISO time without its seconds, and anything else as text.

    >>> moment("2026-11-21T02:10:33.123+00:00"), moment("yesterday")
    ('2026-11-21 02:10 UTC', 'yesterday')
    """
    try:
        time = datetime.fromisoformat(str(value))
    except ValueError:
        return str(value)
    return f"{time:%Y-%m-%d %H:%M} {time.tzname() or ''}".rstrip()


def shortened(text: str, length: int = 60) -> str:
    """Returns ``text``, with an ellipsis in its middle if it is longer than ``length``.

    >>> shortened("abcdefghij", 7)
    'abc…hij'
    """
    if len(text) <= length:
        return text
    keep = length - 1
    return f"{text[: keep - keep // 2]}…{text[len(text) - keep // 2 :]}"


def file_label(path: str | PathLike[str]) -> str:
    """Returns a file's folder and name, without the private part of its path.

    >>> file_label("/home/ann/photos/train/ants/a 1.jpg")
    'ants/a 1.jpg'
    """
    parts = PurePath(fspath(path)).parts
    return shortened("/".join(part for part in parts[-2:] if part not in ("/", "\\")))


def file_name(path: str | PathLike[str]) -> str:
    """Returns a file's name without its folder.

    >>> file_name("/home/ann/photos/train/ants/a 1.jpg")
    'a 1.jpg'
    """
    return shortened(PurePath(fspath(path)).name)


def printable(value: object) -> object:
    r"""Returns a text without the characters that HTML forbids: control characters and lone surrogates.

    >>> printable("a\x00b")
    'a\ufffdb'
    """
    if not isinstance(value, str):
        return value
    clean = _CONTROLS.sub("\ufffd", value).encode("utf-8", "replace").decode("utf-8")
    # A Markup object stays one, so that its text is not escaped twice.
    return type(value)(clean)


def shortlist(names: Sequence[str], most: int = 8) -> str:
    """Returns names separated by commas; names after the first ``most`` are counted.

    >>> shortlist(["ant", "bee"]), shortlist(["a", "b", "c", "d"], most=2)
    ('ant, bee', 'a, b, 2 more')
    """
    rest = len(names) - most
    return ", ".join([*names[:most], *([f"{rest:,} more"] if rest > 0 else [])])

"""Writes a report as one self-contained HTML file, whose content security policy blocks everything else."""

from base64 import b64encode
from functools import cache
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from penult.files import replace_file
from penult.pipeline import words
from penult.pipeline.report import page as views
from penult.pipeline.report.content import ReportContent
from penult.pipeline.report.embedding_map import HEIGHT, WIDTH, hover_data
from penult.pipeline.report.thumbnails import BUDGET_BYTES, develop


def write_report(path: str | Path, report: ReportContent) -> None:
    """Writes ``report`` to ``path`` atomically."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, render(report).encode())


def render(report: ReportContent, *, budget_bytes: int = BUDGET_BYTES) -> str:
    """Returns the HTML of the page, with at most ``budget_bytes`` of thumbnails."""
    page = views.page_of(report)
    album = develop(views.pictures_of(report, page), budget_bytes=budget_bytes)
    hover = (
        hover_data(report.embedding, page.landscape, album.pictures) if report.embedding and page.landscape else None
    )
    style, script = _source("style.css"), _source("script.js")
    pictures = Markup("\n".join(album.rules))  # noqa: S704 - contains only our own names and base64
    return (
        _environment()
        .get_template("page.html")
        .render(
            report=report,
            page=page,
            album=album,
            hover=hover,
            limits=views,
            map_size=(WIDTH, HEIGHT),
            style=Markup(style),  # noqa: S704 - our own file
            script=Markup(script),  # noqa: S704 - our own file
            pictures=pictures,
            policy=_policy(script, styles=(style, pictures)),
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FunctionLoader(_source),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=words.printable,
    )
    for filter_ in (
        words.percent,
        words.counted,
        words.figure,
        words.moment,
        words.listed,
        words.file_label,
        words.file_name,
        words.shortened,
        views.flattened,
    ):
        environment.filters[filter_.__name__] = filter_
    return environment


def _source(name: str) -> str:
    return files("penult.pipeline.report").joinpath(name).read_text(encoding="utf-8")


def _policy(script: str, *, styles: tuple[str, ...]) -> str:
    """Returns a content security policy: no network, and only the script and styles with these hashes."""
    ours = " ".join(f"'{_hash(style)}'" for style in styles)
    rules = [
        "default-src 'none'",
        "img-src data:",
        f"style-src {ours}",
        f"script-src '{_hash(script)}'",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    return "; ".join(rules)


def _hash(text: str) -> str:
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"

"""`penult serve`: a model behind HTTP."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import click

from penult.pipeline.cli.options import Verb, default_of, json_option, runs_option, store_option
from penult.pipeline.cli.output import print_json
from penult.pipeline.serving.limits import Limits
from penult.pipeline.serving.server import serve as run_serve

_DEFAULTS = {field.name: field.default for field in fields(Limits)}


def _limit(name: str, text: str) -> Callable[[Verb], Verb]:
    kind = click.IntRange(1)
    return click.option(
        f"--max-{name.replace('_', '-')}", name, type=kind, default=_DEFAULTS[name], show_default=True, help=text
    )


@click.command()
@click.argument("model", metavar="MODEL")
@click.option("--host", default=default_of(run_serve, "host"), show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=default_of(run_serve, "port"),
    show_default=True,
    help="The port to listen on; 0 is any free one.",
)
@runs_option("model", default_of(run_serve, "provider"))
@_limit("images", "Images in a request.")
@_limit("image_bytes", "Bytes of an image.")
@_limit("pixels", "Pixels of an image.")
@_limit("request_bytes", "Bytes of a request.")
@_limit("requests", "Requests at once.")
@store_option
@json_option
def serve(model: str, store: Path, as_json: bool, host: str, port: int, provider: str, **limits: int) -> None:
    """Serve MODEL over HTTP: a model's file, or the name of a head in the store.

    POST images to /predict, as multipart files, as JSON with base64, or one as the body. /health says whether it
    answers, /metrics what it has done. SIGTERM or Ctrl-C stops it after the requests that it has.
    """

    def tell(address: str) -> None:
        if as_json:
            print_json({"address": address, "model": model})
        else:
            click.echo(f"Serving {model} on {address}. Try: curl -F image=@photo.jpg {address}/predict")

    run_serve(model, store, host=host, port=port, provider=provider, limits=Limits(**limits), on_ready=tell)

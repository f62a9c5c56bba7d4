"""`penult serve`: a model as an HTTP service."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import click

import penult
from penult.pipeline.cli.options import Verb, json_option, provider_option, store_option
from penult.pipeline.cli.output import print_json
from penult.pipeline.serving.limits import Limits

_DEFAULTS = {field.name: field.default for field in fields(Limits)}


def _limit(name: str, text: str) -> Callable[[Verb], Verb]:
    kind = click.IntRange(1)
    return click.option(
        f"--max-{name.replace('_', '-')}", name, type=kind, default=_DEFAULTS[name], show_default=True, help=text
    )


@click.command()
@click.argument("model", metavar="MODEL")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="Port to listen on; 0 chooses a free one.",
)
@provider_option("model")
@_limit("images", "Largest number of images in one request.")
@_limit("image_bytes", "Largest size of one image, in bytes.")
@_limit("pixels", "Largest number of pixels of one image.")
@_limit("request_bytes", "Largest size of the body of a request, in bytes.")
@_limit("requests", "Largest number of requests that are processed at the same time.")
@store_option
@json_option
def serve(model: str, store: Path, as_json: bool, host: str, port: int, provider: str, **limits: int) -> None:
    """Serve a model over HTTP.

    MODEL is the file of a model, or the name of a head in the store. POST images to /predict: multipart files, JSON
    with base64, or one image as the body. /health reports whether the server is ready, /metrics its counters. SIGTERM
    or Ctrl-C stops it after the open requests are answered.
    """

    def announce(address: str) -> None:
        if as_json:
            print_json({"address": address, "model": model})
        else:
            click.echo(f"Serving {model} on {address}. Try: curl -F image=@photo.jpg {address}/predict")

    penult.serve(model, store, host=host, port=port, provider=provider, limits=Limits(**limits), on_ready=announce)

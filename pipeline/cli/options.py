"""The options that several verbs share. Their defaults are those of the Python API."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast, get_args

import click

import penult
from penult.defaults import BACKBONE, FEATURES, PROVIDERS, STORE, TARGET
from penult.errors import InputError
from penult.pipeline.extraction.options import Dtype, EngineName, ExtractOptions

if TYPE_CHECKING:
    from penult import Store, TrainOptions

__all__ = [
    "AUTO_HELP",
    "Verb",
    "backbone_filter_option",
    "backbone_option",
    "cluster_options",
    "dataset_argument",
    "dataset_or_only",
    "extract_options",
    "features_option",
    "images_argument",
    "job_options",
    "json_option",
    "provider_option",
    "store_argument",
    "store_option",
    "take_extract_options",
    "take_train_options",
    "target_option",
    "task_option",
    "training_options",
    "with_options",
]

Verb = TypeVar("Verb", bound=Callable[..., Any])

AUTO_HELP = "'auto' chooses the best of the quick ones on held-out training images"

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout instead of text.")
dataset_argument = click.argument("dataset", required=False)
store_option = click.option(
    "--store",
    type=click.Path(path_type=Path, file_okay=True),
    default=STORE,
    show_default=True,
    envvar="PENULT_STORE",
    help="Folder of the store with the features, or its address in object storage: s3://BUCKET/NAME. "
    "[env: PENULT_STORE]",
)
backbone_option = click.option(
    "--backbone",
    default=BACKBONE,
    show_default=True,
    metavar="NAME|FILE",
    help="A built-in backbone, or the ONNX file of a backbone. See 'penult backbones'.",
)
backbone_filter_option = click.option(
    "--backbone", help="Use the features of this backbone, if the store has those of several."
)
features_option = click.option(
    "--features",
    default=FEATURES,
    show_default=True,
    help="Features to use, separated by commas: TAP or BACKBONE:TAP.",
)


def store_argument(verb: Verb) -> Verb:
    """Adds the store as an argument, or as the option ``--store``."""

    @wraps(verb)
    def called(*args: Any, named: Path | None, store: Path, **values: Any) -> Any:
        return verb(*args, store=named or store, **values)

    argument = click.argument("named", type=click.Path(path_type=Path), required=False, metavar="[STORE]")
    return cast("Verb", argument(store_option(called)))


def images_argument(*, required: bool = True) -> Callable[[Verb], Verb]:
    """Adds the images: a folder, table, archive, pattern or URL, so the argument is text and not a path."""
    return click.argument("images", required=required)


def provider_option(what: str) -> Callable[[Verb], Verb]:
    """Returns the option that chooses the execution provider of a backbone or model."""
    return click.option(
        "--provider",
        type=click.Choice(["auto", *PROVIDERS]),
        default=ExtractOptions.provider,
        show_default=True,
        help=f"Execution provider for the {what}. It is an error if the one you name cannot be used.",
    )


def target_option(what: str) -> Callable[[Verb], Verb]:
    """Returns the option that names the column to predict."""
    return click.option("--target", default=TARGET, show_default=True, help=what)


def task_option(what: str) -> Callable[[Verb], Verb]:
    """Returns the option that decides how the target column is read."""
    kinds = click.Choice(["classification", "regression", "multilabel"])
    return click.option("--task", type=kinds, help=f"How to read the target, if it could be read in several ways{what}")


def with_options(verb: Verb, options: Sequence[Callable[[Verb], Verb]]) -> Verb:
    """Adds options so that --help lists them in the given order."""
    for option in reversed(options):
        verb = option(verb)
    return verb


def extract_options(verb: Verb) -> Verb:
    """Adds options of `ExtractOptions`. `take_extract_options` reads them from the keywords of the verb."""
    options = (
        provider_option("backbone"),
        click.option(
            "--workers",
            type=click.IntRange(1),
            help="Number of threads that decode images and run the backbone.  [default: the number of cores]",
        ),
        click.option(
            "--batch-size",
            type=click.IntRange(1),
            help="Images per run of the backbone.  [default: 4 on a CPU (1 with openvino), 64 on a GPU]",
        ),
        click.option(
            "--dtype",
            type=click.Choice(get_args(Dtype)),
            default=ExtractOptions.dtype,
            show_default=True,
            help="Number format of the stored features.",
        ),
        click.option("--strict", is_flag=True, help="Stop at the first image that cannot be used."),
        click.option(
            "--retry-failed", is_flag=True, help="Try images again that failed before and have not changed since."
        ),
        click.option(
            "--rehash", is_flag=True, help="Read every file again, even if its size and modification time are known."
        ),
        click.option("--limit", type=click.IntRange(1), help="Use at most this many images."),
        click.option(
            "--image-seconds",
            type=click.FloatRange(0, min_open=True),
            default=ExtractOptions.image_seconds,
            show_default=True,
            help="Count an image as failed if decoding it takes longer than this.",
        ),
        click.option(
            "--image-megabytes",
            type=click.IntRange(1),
            default=ExtractOptions.image_megabytes,
            show_default=True,
            help="Count an image as failed if decoding it takes more memory than this.",
        ),
    )
    return with_options(verb, options)


def job_options(verb: Verb) -> Verb:
    """Adds the options of `ExtractOptions` for jobs that may stop before all images are done."""
    options = (
        click.option(
            "--max-seconds",
            type=click.FloatRange(0, min_open=True),
            help="Stop after this time with all finished work saved, and exit with 4. The next run continues.",
        ),
        click.option(
            "--shard",
            metavar="I/N",
            help="Process the I-th of N equal parts of the images. N runs with 1/N to N/N process each image once.",
        ),
        click.option(
            "--views",
            default=ExtractOptions.views,
            show_default=True,
            help="Views of each image to extract, separated by commas: identity, hflip, vflip, affine-1, crop-1, "
            "rotation-1, shear-1, zoom-1, colour-1. Another number is another random draw. See 'penult train --views'.",
        ),
        click.option(
            "--metrics",
            type=click.Path(dir_okay=False),
            help="Write metrics of the job to this file as OpenMetrics text, every ten seconds.",
        ),
    )
    return with_options(verb, options)


def cluster_options(verb: Verb) -> Verb:
    """Adds the options of `ExtractOptions` that choose between this machine and a Ray cluster."""
    options = (
        click.option(
            "--engine",
            type=click.Choice(get_args(EngineName)),
            default=ExtractOptions.engine,
            show_default=True,
            help="Run on this machine (local) or on a Ray cluster. With ray, --workers counts threads per actor.",
        ),
        click.option(
            "--address",
            metavar="auto|HOST:PORT",
            help="Address of the Ray cluster; 'auto' is the cluster that this machine belongs to.  "
            "[default: RAY_ADDRESS, or a new cluster on this machine]",
        ),
        click.option(
            "--actors",
            type=click.IntRange(1),
            help="Number of Ray actors that run the backbone; an autoscaling cluster grows for them.  "
            "[default: as many as the cluster has resources for]",
        ),
        click.option(
            "--decoders",
            type=click.IntRange(1),
            help="Number of Ray tasks per actor that decode images, on any node. CPU nodes can then feed GPU nodes.  "
            "[default: an actor decodes its own images]",
        ),
    )
    return with_options(verb, options)


def take_extract_options(values: dict[str, Any]) -> ExtractOptions:
    """Removes the fields of `ExtractOptions` from the keywords of a verb, and returns them as options."""
    names = [field.name for field in fields(ExtractOptions) if field.name in values]
    return ExtractOptions(**{name: values.pop(name) for name in names})


def training_options(verb: Verb) -> Verb:
    """Adds options of `TrainOptions`. `take_train_options` reads them from the keywords of the verb."""
    options = (
        click.option(
            "--min-accuracy",
            type=click.FloatRange(0, 1, min_open=True, max_open=True),
            help="Share of answers that must be correct, for example 0.98. The head answers 'unsure' for as many "
            "images as held-out training images show to be necessary.",
        ),
        click.option(
            "--class-weight",
            type=click.Choice(["balanced"]),
            help="Weight classes so that rare ones count as much as frequent ones.",
        ),
    )
    return with_options(verb, options)


def take_train_options(values: dict[str, Any], **more: Any) -> "TrainOptions":
    """Removes the options of `training_options` from the keywords of a verb, and returns them with ``more``."""
    return penult.TrainOptions(class_weight=values.pop("class_weight"), min_accuracy=values.pop("min_accuracy"), **more)


def dataset_or_only(store: "Store", name: str | None) -> str:
    """Returns ``name``, or the name of the only dataset of the store."""
    names = store.catalog.datasets.names()
    if name is None and len(names) != 1:
        raise InputError(
            f"The store {store.address!r} has {len(names)} datasets" + (f": {', '.join(names)}" if names else ""),
            expected="the name of one of them" if names else "at least one",
            remedy="name the dataset to use" if names else "run 'penult fit IMAGES' first",
        )
    return name if name is not None else names[0]

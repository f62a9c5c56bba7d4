"""The options that several verbs share, with the defaults of the functions that they are passed to."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

import click

from penult.errors import InputError
from penult.pipeline.extraction.extract import ExtractOptions, extract
from penult.pipeline.extraction.options import EngineName
from penult.pipeline.runtime.providers import PROVIDERS
from penult.pipeline.training.options import TrainOptions
from penult.store import Store

__all__ = [
    "Verb",
    "added",
    "backbone_option",
    "cluster_options",
    "dataset_argument",
    "dataset_of",
    "default_of",
    "extract_options",
    "features_option",
    "images_argument",
    "job_options",
    "json_option",
    "made_options",
    "made_training",
    "of_backbone_option",
    "provider_option",
    "runs_option",
    "store_argument",
    "store_option",
    "target_option",
    "task_option",
    "training_options",
]


Verb = TypeVar("Verb", bound=Callable[..., Any])


def default_of(function: Callable[..., Any], parameter: str) -> Any:
    """Returns the default of a function's parameter, so that the command line states none of its own."""
    return inspect.signature(function).parameters[parameter].default


store_option = click.option(
    "--store",
    type=click.Path(path_type=Path, file_okay=True),
    default=default_of(extract, "store"),
    show_default=True,
    envvar="PENULT_STORE",
    help="The folder that holds the features, or a place in object storage: s3://BUCKET/NAME. [env: PENULT_STORE]",
)


def store_argument(verb: Verb) -> Verb:
    """Adds the store, which may be named with or without ``--store``."""

    @wraps(verb)
    def called(*args: Any, named: Path | None, store: Path, **values: Any) -> Any:
        return verb(*args, store=named or store, **values)

    argument = click.argument("named", type=click.Path(path_type=Path), required=False, metavar="[STORE]")
    return cast("Verb", argument(store_option(called)))


def images_argument(*, required: bool = True) -> Callable[[Verb], Verb]:
    """Adds the images: a folder, a table, an archive, a pattern or a URL, which is why it is text and no path."""
    return click.argument("images", required=required)


backbone_option = click.option(
    "--backbone",
    default=default_of(extract, "backbone"),
    show_default=True,
    metavar="NAME|FILE",
    help="A built-in backbone, or a backbone's ONNX file. See 'penult backbones'.",
)


def runs_option(what: str, default: str) -> Callable[[Verb], Verb]:
    """Returns the option of the execution provider."""
    return click.option(
        "--provider",
        type=click.Choice(["auto", *PROVIDERS]),
        default=default,
        show_default=True,
        help=f"Where the {what} runs. One that is asked for and cannot be used is an error.",
    )


provider_option = runs_option("backbone", ExtractOptions.provider)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout, for machines.")


def extract_options(verb: Verb) -> Verb:
    """Adds the options of `ExtractOptions`; the verb gets them as keywords and gives them to `made_options`."""
    kinds = {field.name: field.default for field in fields(ExtractOptions)}
    options = (
        provider_option,
        click.option("--workers", type=click.IntRange(1), help="Threads that decode and run.  [default: the cores]"),
        click.option(
            "--batch-size",
            type=click.IntRange(1),
            help="Images a run.  [default: 4 on a CPU (1 with openvino), 64 on a GPU]",
        ),
        click.option(
            "--dtype",
            type=click.Choice(["float16", "float32"]),
            default=kinds["dtype"],
            show_default=True,
            help="How features are stored.",
        ),
        click.option("--strict", is_flag=True, help="Stop at the first image that cannot be used."),
        click.option("--retry-failed", is_flag=True, help="Try images again that failed before and have not changed."),
        click.option("--rehash", is_flag=True, help="Read every file again, whatever its size and time say."),
        click.option("--limit", type=click.IntRange(1), help="Take at most so many images."),
        click.option(
            "--image-seconds",
            type=click.FloatRange(0, min_open=True),
            default=kinds["image_seconds"],
            show_default=True,
            help="Give an image up that takes longer to decode.",
        ),
        click.option(
            "--image-megabytes",
            type=click.IntRange(1),
            default=kinds["image_megabytes"],
            show_default=True,
            help="Give an image up that takes more memory to decode.",
        ),
    )
    return added(verb, options)


def job_options(verb: Verb) -> Verb:
    """Adds those options of `ExtractOptions` that only a job has which may end before it has all images."""
    options = (
        click.option(
            "--max-seconds",
            type=click.FloatRange(0, min_open=True),
            help="Stop in time, with all committed; exits with 4, and the next run goes on.",
        ),
        click.option(
            "--shard",
            metavar="I/N",
            help="Take the I-th of N equal parts of the images; N runs with 1/N to N/N take each image once.",
        ),
        click.option(
            "--views",
            default=ExtractOptions.views,
            show_default=True,
            help="What the backbone sees of each image, separated by commas: identity, hflip, vflip, affine-1, crop-1, "
            "rotation-1, shear-1, zoom-1, colour-1; another number is another draw. See 'penult train --views'.",
        ),
        click.option(
            "--metrics",
            type=click.Path(dir_okay=False),
            help="Keep the job's figures in this file as OpenMetrics text, written every ten seconds.",
        ),
    )
    return added(verb, options)


def cluster_options(verb: Verb) -> Verb:
    """Adds those options of `ExtractOptions` that say where a job runs: on this machine, or on a Ray cluster."""
    options = (
        click.option(
            "--engine",
            type=click.Choice(get_args(EngineName)),
            default=ExtractOptions.engine,
            show_default=True,
            help="Run on this machine, or on a Ray cluster: then --workers are those of each actor.",
        ),
        click.option(
            "--address",
            metavar="auto|HOST:PORT",
            help="The Ray cluster; auto is the one that this machine belongs to.  "
            "[default: that of RAY_ADDRESS, or one of its own on this machine]",
        ),
        click.option(
            "--actors",
            type=click.IntRange(1),
            help="So many actors of Ray, for which a cluster may grow.  [default: as many as there is room for]",
        ),
        click.option(
            "--decoders",
            type=click.IntRange(1),
            help="Have so many tasks of Ray decode for each actor, on any node, so that the CPUs of some feed the GPUs "
            "of others.  [default: an actor decodes by itself]",
        ),
    )
    return added(verb, options)


def added(verb: Verb, options: Sequence[Callable[[Verb], Verb]]) -> Verb:
    """Adds options so that --help lists them in their order."""
    for option in reversed(options):
        verb = option(verb)
    return verb


def made_options(values: dict[str, Any]) -> ExtractOptions:
    """Takes the options of `extract_options`, `job_options` and `cluster_options` out of a verb's keywords."""
    names = [field.name for field in fields(ExtractOptions) if field.name in values]
    return ExtractOptions(**{name: values.pop(name) for name in names})


AUTO_HELP = "'auto' takes the best of the quick ones on held-out training images"


def training_options(verb: Verb) -> Verb:
    """Adds options of `TrainOptions`; the verb gets them as keywords and gives them to `made_training`."""
    options = (
        click.option(
            "--min-accuracy",
            type=click.FloatRange(0, 1, min_open=True, max_open=True),
            help="The share of answers that is to be right, as in 0.98: the head calls images 'unsure' rather, as far "
            "as held-out training images show that it must.",
        ),
        click.option(
            "--class-weight",
            type=click.Choice(["balanced"]),
            help="Give the images of a rare class the weight of those of a frequent one.",
        ),
    )
    return added(verb, options)


def made_training(values: dict[str, Any], **more: Any) -> TrainOptions:
    """Takes the options of `training_options` out of a verb's keywords."""
    return TrainOptions(class_weight=values.pop("class_weight"), min_accuracy=values.pop("min_accuracy"), **more)


dataset_argument = click.argument("dataset", required=False)

of_backbone_option = click.option("--backbone", help="Whose features, where the store has those of several.")


def features_option(run: Callable[..., Any]) -> Callable[[Verb], Verb]:
    """Returns the option of the features that a verb uses, with the default of the function that it calls."""
    return click.option(
        "--features",
        default=default_of(run, "features"),
        show_default=True,
        help="Taps, or backbone:tap, separated by commas.",
    )


def target_option(what: str) -> Callable[[Verb], Verb]:
    """Returns the option of the column that is to be predicted."""
    return click.option("--target", default=TrainOptions.target, show_default=True, help=what)


def task_option(what: str) -> Callable[[Verb], Verb]:
    """Returns the option that decides how a column is read."""
    kinds = click.Choice(["classification", "regression", "multilabel"])
    return click.option("--task", type=kinds, help=f"What the target holds, where it could be either{what}")


def dataset_of(store: Store, named: str | None) -> str:
    """Returns the dataset that is named, or the only one of the store."""
    names = store.catalog.datasets.names()
    if named is None and len(names) != 1:
        raise InputError(
            f"The store {store.address!r} has {len(names)} datasets" + (f": {', '.join(names)}" if names else ""),
            expected="the name of one of them" if names else "at least one",
            remedy="name the one that is meant" if names else "run 'penult fit IMAGES' first",
        )
    return named if named is not None else names[0]

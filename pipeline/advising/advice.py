"""Advice in plain words, each with its evidence and the command to run next."""

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from penult.exporters.registry import builtin_names
from penult.pipeline.advising.measurements import Measured
from penult.pipeline.evaluation.intervals import Interval
from penult.pipeline.samples.targets import LABEL
from penult.pipeline.words import counted, listed
from penult.store import SpaceSpec, Store
from penult.store.catalog.datasets import Dataset

__all__ = ["Advice", "Commands", "advice_on"]

# Stands for the images in a command, if their folder is not below the current one.
UNKNOWN = "IMAGES"

# If a perfect classifier would gain less than this share, another network cannot show a difference.
LITTLE_HEADROOM = 0.01

# A limit of accuracy above this is not worth mentioning.
NO_LIMIT = 0.995

THIN = "There is little evidence: "


@dataclass(frozen=True)
class Advice:
    """One thing to do, its evidence, and the command to run next."""

    text: str
    evidence: str = ""
    command: str = ""


@dataclass(frozen=True)
class Commands:
    """Writes commands for one dataset of one store."""

    store: Store
    dataset: Dataset
    target: str = LABEL

    def on_dataset(self, verb: str, *words: str) -> str:
        """Returns a command whose argument is the dataset."""
        target = () if self.target == LABEL else ("--target", self.target)
        return self._spelt(verb, self.dataset.name, *words, *target)

    def on_images(self, verb: str, *words: str) -> str:
        """Returns a command whose argument is the folder of the images."""
        return self._spelt(verb, self._images, *words)

    def extraction(self, spec: SpaceSpec, taps: tuple[str, ...]) -> str:
        """Returns the command that extracts these taps with the backbone of a space."""
        network = spec.backbone
        if network not in builtin_names():
            network = str(_below(self.store.backbone_path(network, spec.fingerprint)))
        dtype = () if spec.dtype == SpaceSpec.dtype else ("--dtype", spec.dtype)
        return self.on_images("extract", "--backbone", network, "--taps", ",".join(taps), *dtype)

    def _spelt(self, *words: str) -> str:
        return shlex.join(["penult", *words, "--store", self.store.short_address])

    @property
    def _images(self) -> str:
        """The common folder of all images if it is below the current folder, else the word IMAGES."""
        try:
            folder = Path(os.path.commonpath([Path(path).absolute().parent for path in self.dataset.paths]))
        except ValueError:  # no images, or images on several drives
            return UNKNOWN
        below = _below(folder)
        return str(below) if folder.is_dir() and not below.is_absolute() and below != Path() else UNKNOWN


def _below(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def advice_on(measured: Measured, commands: Commands) -> tuple[Advice, ...]:
    """Returns what to do, the most certain gain first."""
    first: list[Advice] = []
    rest: list[Advice] = []
    (first if measured.taps.better else rest).append(_features(measured, commands))
    (first if measured.has_many is False else rest).append(_labels(measured, commands))
    if measured.headroom.doubted:
        first.append(_doubtful_labels(measured, commands))
    if measured.taps.missing:
        rest.append(_missing_taps(measured, commands))
    return (*first, *rest, _network(measured))


def _features(measured: Measured, commands: Commands) -> Advice:
    taps, better = measured.taps, measured.taps.better
    used = _short(measured.features, measured)
    if taps.compared is None or taps.used is None:
        text = f"Other features in the store were not compared with {used} here."
        return Advice(text, "", commands.on_dataset("advise"))
    n, head, accuracy = taps.used.evaluation.n, taps.used.head, taps.used.evaluation.accuracy
    if better:
        other = _short(better.features, measured)
        return Advice(
            f"Train on {other}: these are the best features in the store, and significantly better than {used}.",
            f"On {n:,} held-out training images, the accuracy of the head {head} is "
            f"{_span(better.evaluation.accuracy)} with them, and {_span(accuracy)} with {used}.",
            commands.on_dataset("train", "--head", measured.curve.head, "--features", better.features),
        )
    if len(taps.compared.tries) == 1:
        return Advice(
            f"It is not known whether other features are better than {used}.",
            f"The store has no others of all {measured.n_train:,} training images.",
        )
    tried = [f"{_short(one.features, measured)} {one.evaluation.accuracy.value:.1%}" for one in taps.compared.tries]
    return Advice(
        f"Stay with {used}: no features in the store are significantly better.",
        f"On {n:,} held-out training images, the accuracy of the head {head} is: {listed(tried)}. With {used} the "
        f"interval is {accuracy.low:.1%} to {accuracy.high:.1%}.",
        commands.on_dataset("compare"),
    )


def _short(features: str, measured: Measured) -> str:
    """Returns the name of features, without the backbone if it is the one in use."""
    parts = [part.removeprefix(f"{measured.spaces[0].backbone}:") for part in features.split("+")]
    if len(parts) > 2 and set(parts) == set(measured.taps.extracted):
        return f"all {len(parts)} taps together"
    return " + ".join(parts)


def _missing_taps(measured: Measured, commands: Commands) -> Advice:
    taps = measured.taps
    return Advice(
        f"Try the taps that are not in the store yet: {listed(taps.missing)}.",
        "Earlier taps are sometimes better, alone or together with the last one; only a comparison shows it. One pass "
        "over the images extracts all of them.",
        commands.extraction(measured.spaces[0], (*taps.extracted, *taps.missing)),
    )


def _labels(measured: Measured, commands: Commands) -> Advice:
    curve, ahead = measured.curve, measured.extrapolation
    command = commands.on_dataset("review") if measured.n_unlabelled else commands.on_images("fit")
    if ahead is None:
        return Advice(
            f"Label more images first: {counted(measured.n_train, 'training image')} of "
            f"{counted(measured.n_classes, 'class', 'classes')} are too few for a learning curve.",
            f"{THIN}the held-out accuracy is {_span(measured.headroom.held_out)}.",
            command,
        )
    counts = listed([f"{point.n:,}" for point in curve.points])
    shares = listed([f"{point.accuracy:.1%}" for point in curve.points])
    evidence = (
        f"Fitted on {counts} images, the head {curve.head} has an accuracy of {shares} on the same {curve.tested:,} "
        f"held-out training images. Power laws that fit these points reach {_span(ahead.accuracy)} with {ahead.n:,} "
        f"images, and {_span(ahead.limit)} with any number of labels."
    )
    gain = f"twice as many would gain {_points(ahead.gain)}"
    if measured.has_many is None:
        return Advice(f"It is not clear yet whether more labels would help: {gain}.", THIN + evidence, command)
    if measured.has_many:
        return Advice(f"More labels of the same kind would help little: {gain}.", evidence)
    return Advice(f"Label more images: {gain}.", evidence, command)


def _doubtful_labels(measured: Measured, commands: Commands) -> Advice:
    headroom = measured.headroom
    share = f"{headroom.doubted:,} of {counted(headroom.mistakes, 'held-out mistake')}"
    return Advice(
        f"Check {counted(headroom.doubted, 'label')} that may be wrong.",
        f"For {share} the head is as sure of another class as it is of images with that label. Such a label may still "
        "be correct, and the image unusual.",
        commands.on_dataset("review"),
    )


def _network(measured: Measured) -> Advice:
    """Returns advice on the network: few or many images, near to ImageNet or far, and what is left to gain."""
    headroom, many = measured.headroom, measured.has_many
    low, high = f"{100 * headroom.least:.1f}", f"{100 * headroom.most:.1f}"
    left = f"{high} points" if low == high else f"{low} to {high} points"
    if headroom.most < LITTLE_HEADROOM:
        text = f"Keep the network: a perfect one would gain no more than {left} on these images."
    elif many is None:
        text = f"It is not clear yet whether fine-tuning would help; a perfect network would gain {left}."
    elif many:
        text = f"More labels are not the way: {left} are left to gain, perhaps with a larger or fine-tuned network."
    elif measured.distance and measured.distance.is_near is False:
        text = f"Do not fine-tune on so few images yet: try earlier taps, and label more. {left} are left to gain."
    else:
        text = f"Do not fine-tune on so few images yet: label more. {left} are left to gain."
    command = "penult backbones" if many and headroom.most >= LITTLE_HEADROOM else ""
    return Advice(text, " ".join([*_size_and_distance(measured), *_fit(measured)]), command)


def _size_and_distance(measured: Measured) -> list[str]:
    size = {
        None: "It is not known whether these are few or many images.",
        True: "These are many images: twice as many would gain little.",
        False: "These are few images: twice as many would gain more.",
    }
    unknown = (
        "The distance of the images from ImageNet is unknown: penult can measure it only for the last tap of the "
        "built-in backbone, and with at least 25 images."
    )
    return [size[measured.has_many], measured.distance.sentence if measured.distance else unknown]


def _fit(measured: Measured) -> list[str]:
    headroom, ahead = measured.headroom, measured.extrapolation
    sentences = [
        f"The accuracy is {headroom.fitted:.1%} on the images that the head was fitted on, and "
        f"{_span(headroom.held_out)} on the same images held out."
    ]
    if measured.n_train <= sum(spec.width for spec in measured.spaces):
        sentences.append(
            "There are more features than images, so every head can fit them perfectly and the gap says little."
        )
    elif headroom.gap > (headroom.held_out.high - headroom.held_out.low) / 2:
        sentences.append("Part of the gap is overfitting, which more images reduce.")
    elif headroom.most >= LITTLE_HEADROOM:
        sentences.append("There is little overfitting: these features do not separate the images that are wrong.")
    if ahead is not None and ahead.limit.high < NO_LIMIT:
        sentences.append(
            f"More labels are unlikely to raise the accuracy of these features above {ahead.limit.high:.1%}."
        )
    sentences.append("Fine-tuning itself was not tried.")
    return sentences


def _span(found: Interval) -> str:
    return f"{found.value:.1%} ({found.low:.1%} to {found.high:.1%})"


def _points(gain: Interval) -> str:
    return f"{100 * gain.value:.1f} points ({100 * gain.low:.1f} to {100 * gain.high:.1f})"

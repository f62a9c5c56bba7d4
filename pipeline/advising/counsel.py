"""Advice in plain words, each with the figures that speak for it and the command to run next."""

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from penult.exporters.registry import builtin_names
from penult.pipeline.advising.evidence import Measured
from penult.pipeline.evaluation.intervals import Interval
from penult.pipeline.samples.targets import LABEL
from penult.pipeline.words import counted, listed
from penult.store import SpaceSpec, Store
from penult.store.catalog.datasets import Dataset

__all__ = ["Commands", "counsel"]


UNKNOWN = "IMAGES"


@dataclass(frozen=True)
class Advice:
    """One thing to do, the measurement that speaks for it, and the command to run next."""

    text: str
    evidence: str = ""
    command: str = ""


@dataclass(frozen=True)
class Commands:
    """Spells the commands for one dataset of one store."""

    store: Store
    dataset: Dataset
    target: str = LABEL

    def on_dataset(self, verb: str, *words: str) -> str:
        """Returns a verb that takes the dataset, with further words."""
        target = () if self.target == LABEL else ("--target", self.target)
        return self._spelt(verb, self.dataset.name, *words, *target)

    def on_images(self, verb: str, *words: str) -> str:
        """Returns a verb that takes the images, with further words."""
        return self._spelt(verb, self._images, *words)

    def extraction(self, spec: SpaceSpec, taps: tuple[str, ...]) -> str:
        """Returns what extracts these taps by the backbone of a space."""
        network = spec.backbone
        if network not in builtin_names():
            network = str(_below(self.store.backbone_path(network, spec.fingerprint)))
        dtype = () if spec.dtype == SpaceSpec.dtype else ("--dtype", spec.dtype)
        return self.on_images("extract", "--backbone", network, "--taps", ",".join(taps), *dtype)

    @staticmethod
    def plain(verb: str) -> str:
        """Returns a verb that takes nothing."""
        return f"penult {verb}"

    def _spelt(self, *words: str) -> str:
        return shlex.join(["penult", *words, "--store", self.store.short_address])

    @property
    def _images(self) -> str:
        """The folder that all images lie in, where it is below the current one, or else the word IMAGES."""
        try:
            folder = Path(os.path.commonpath([Path(path).absolute().parent for path in self.dataset.paths]))
        except ValueError:  # no images, or drives that differ
            return UNKNOWN
        below = _below(folder)
        return str(below) if folder.is_dir() and not below.is_absolute() and below != Path() else UNKNOWN


def _below(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


LITTLE_ROOM = 0.01
"""Fewer held-out mistakes than this share leave nothing that another network could show."""

SURPASSED = 0.995
"""A limit above this is none that anybody will notice."""

THIN = "The evidence is thin: "


def counsel(measured: Measured, commands: Commands) -> tuple[Advice, ...]:
    """Returns what to do, the surest gain first."""
    first: list[Advice] = []
    rest: list[Advice] = []
    (first if measured.taps.better else rest).append(_features(measured, commands))
    (first if measured.has_many is False else rest).append(_labels(measured, commands))
    if measured.room.doubted:
        first.append(_doubts(measured, commands))
    if measured.taps.missing:
        rest.append(_untried(measured, commands))
    return (*first, *rest, _network(measured, commands))


def _features(measured: Measured, commands: Commands) -> Advice:
    taps, better = measured.taps, measured.taps.better
    used = _called(measured.features, measured)
    if taps.compared is None or taps.used is None:
        text = f"Whether other features in the store carry more than {used} was not tried here."
        return Advice(text, "", commands.on_dataset("advise"))
    n, head, accuracy = taps.used.evaluation.n, taps.used.head, taps.used.evaluation.accuracy
    if better:
        other = _called(better.features, measured)
        return Advice(
            f"Train on {other}: the best in the store, and really better than {used}.",
            f"Of {n:,} held-out training images an {head} head on it names {_span(better.evaluation.accuracy)} "
            f"rightly, and on {used} {_span(accuracy)}.",
            commands.on_dataset("train", "--head", measured.curve.head, "--features", better.features),
        )
    if len(taps.compared.tries) == 1:
        return Advice(
            f"Whether other features carry more than {used} is not known.",
            f"The store holds no others of all {measured.n_train:,} training images.",
        )
    tried = [f"{_called(one.features, measured)} {one.evaluation.accuracy.value:.1%}" for one in taps.compared.tries]
    return Advice(
        f"Stay with {used}: no features in the store are really better.",
        f"Of {n:,} held-out training images an {head} head names rightly: {listed(tried)}. On {used} the interval is "
        f"{accuracy.low:.1%} to {accuracy.high:.1%}.",
        commands.on_dataset("compare"),
    )


def _called(features: str, measured: Measured) -> str:
    """Returns the name of features without the backbone, where it is the one in use."""
    parts = [part.removeprefix(f"{measured.spaces[0].backbone}:") for part in features.split("+")]
    if len(parts) > 2 and set(parts) == set(measured.taps.extracted):
        return f"all {len(parts)} taps side by side"
    return " + ".join(parts)


def _untried(measured: Measured, commands: Commands) -> Advice:
    taps = measured.taps
    return Advice(
        f"Look at the taps that are not in the store yet: {listed(taps.missing)}.",
        "Earlier taps sometimes carry more, alone or beside the last; no rule tells when, a try does. All come in one "
        "pass over the images.",
        commands.extraction(measured.spaces[0], (*taps.extracted, *taps.missing)),
    )


def _labels(measured: Measured, commands: Commands) -> Advice:
    curve, ahead = measured.curve, measured.outlook
    command = commands.on_dataset("review") if measured.n_unlabelled else commands.on_images("fit")
    if ahead is None:
        return Advice(
            f"Label more images first: {counted(measured.n_train, 'training image')} of "
            f"{counted(measured.n_classes, 'class', 'classes')} are too few for a learning curve.",
            f"{THIN}{_span(measured.room.held_out)} of them are named rightly when they are held out.",
            command,
        )
    counts = listed([f"{point.n:,}" for point in curve.points])
    shares = listed([f"{point.accuracy:.1%}" for point in curve.points])
    evidence = (
        f"Fitted on {counts} images, a {curve.head} head names {shares} of the same {curve.tested:,} held-out training "
        f"images rightly. The power laws that this allows reach {_span(ahead.accuracy)} at {ahead.n:,} images, and "
        f"{_span(ahead.limit)} with labels without end."
    )
    gain = f"twice as many would bring {_points(ahead.gain)}"
    if measured.has_many is None:
        return Advice(f"Whether more labels would help cannot be told yet: {gain}.", THIN + evidence, command)
    if measured.has_many:
        return Advice(f"More labels of the same kind would bring little: {gain}.", evidence)
    return Advice(f"Label more images: {gain}.", evidence, command)


def _doubts(measured: Measured, commands: Commands) -> Advice:
    room = measured.room
    share = f"{room.doubted:,} of {counted(room.mistakes, 'held-out mistake')}"
    return Advice(
        f"Look at {counted(room.doubted, 'label')} that may be wrong.",
        f"For {share} the head is as sure of another class as it is of images labelled so. A label may be right "
        "nevertheless, and its image unusual.",
        commands.on_dataset("review"),
    )


def _network(measured: Measured, commands: Commands) -> Advice:
    """Says which of the four cases this is (few or many images, near to ImageNet or far), and what is left to gain."""
    room, many, near = measured.room, measured.has_many, measured.likeness.is_near if measured.likeness else None
    low, high = f"{100 * room.least:.1f}", f"{100 * room.most:.1f}"
    left = f"{high} points" if low == high else f"{low} to {high} points"
    if room.most < LITTLE_ROOM:
        text = f"Leave the network as it is: a perfect one would add no more than {left} on these images."
    elif many is None:
        text = f"Whether fine-tuning would pay cannot be told yet; a perfect network would add {left}."
    elif many:
        text = f"Labels are not what is lacking: {left} are left, some perhaps for a larger or fine-tuned network."
    elif near is False:
        text = f"Do not fine-tune on so few images yet: try earlier taps, and label more. {left} are left to gain."
    else:
        text = f"Do not fine-tune on so few images yet: label more. {left} are left to gain."
    other = commands.plain("backbones") if many and room.most >= LITTLE_ROOM else ""
    return Advice(text, " ".join([*_case(measured), *_seen(measured)]), other)


def _case(measured: Measured) -> list[str]:
    amount = {
        None: "Whether these are few images or many is not known;",
        True: "These are many images in that twice as many would bring little;",
        False: "These are few images in that twice as many would bring more;",
    }
    unknown = (
        "how far they lie from ImageNet cannot be said, since penult knows what its photos look like to the built-in "
        "backbone only, at its last tap, and by 25 images at least."
    )
    return [amount[measured.has_many], measured.likeness.sentence if measured.likeness else unknown]


def _seen(measured: Measured) -> list[str]:
    room, ahead = measured.room, measured.outlook
    said = [
        f"The head names {room.fitted:.1%} of the images rightly that it was fitted on, and "
        f"{_span(room.held_out)} of them held out."
    ]
    if measured.n_train <= sum(spec.width for spec in measured.spaces):
        said.append("With more features than images every head can learn its images by heart, so the gap tells little.")
    elif room.gap > (room.held_out.high - room.held_out.low) / 2:
        said.append("Part of the gap is learned by heart, which more images cure.")
    elif room.most >= LITTLE_ROOM:
        said.append("Little is learned by heart: what the head gets wrong, these features do not tell apart.")
    if ahead is not None and ahead.limit.high < SURPASSED:
        said.append(f"No number of labels is likely to bring these features beyond {ahead.limit.high:.1%}.")
    said.append("Fine-tuning itself was not tried.")
    return said


def _span(found: Interval) -> str:
    return f"{found.value:.1%} ({found.low:.1%} to {found.high:.1%})"


def _points(gain: Interval) -> str:
    return f"{100 * gain.value:.1f} points ({100 * gain.low:.1f} to {100 * gain.high:.1f})"

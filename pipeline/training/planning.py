"""Choices before the fit, made on held-out training images alone: the kind of head, and when it should answer."""

from dataclasses import dataclass
from typing import Any

from penult.errors import InputError
from penult.pipeline.comparing.choosing import HeadChoice, abstention_of, choose_head
from penult.pipeline.comparing.compare import CompareOptions
from penult.pipeline.evaluation.abstention import Abstention, check_wanted
from penult.pipeline.heads.names import AUTO, Task
from penult.pipeline.heads.out_of_fold import HeadPlan
from penult.pipeline.heads.recipe import HeadOptions
from penult.pipeline.heads.registry import recipe_of
from penult.pipeline.progress import Progress
from penult.pipeline.training.options import TrainingRun, TrainOptions

__all__ = ["TrainPlan", "check_choices", "choose_plan"]


@dataclass(frozen=True)
class TrainPlan:
    """The head to fit, how it was chosen, and from which probability on it answers, where that was asked for."""

    head: Any
    choice: HeadChoice | None = None
    abstention: Abstention | None = None
    notes: tuple[str, ...] = ()

    @property
    def min_confidence(self) -> float:
        """The probability of the best class below which the head gives no answer."""
        return self.abstention.min_confidence if self.abstention else 0.0


def check_choices(head: Any, options: TrainOptions, task: Task = "classification") -> None:
    """Raises where options exclude each other, or do not apply to the task."""
    if task != "classification":
        _check_values(options, task)
        return
    check_wanted(options.min_accuracy)
    is_auto = isinstance(head, str) and head == AUTO
    if options.class_weight is not None and not is_auto:
        recipe_of(head, HeadOptions(2, 2, 1, options.seed, options.class_weight), options.params)
    if is_auto and (options.params or options.start_from):
        given = f"the parameters {', '.join(options.params)}" if options.params else "a head to start from"
        raise InputError(
            f"{given} cannot be used with the head {AUTO}, which tries several kinds",
            expected=f"{AUTO} alone",
            remedy="name the head that they are for",
        )
    if options.average_views and not options.views:
        raise InputError(
            "--average-views was given without --views", expected="views such as identity,hflip", remedy="name them"
        )
    if options.views and options.min_accuracy is not None:
        raise InputError(
            "--min-accuracy cannot be combined with --views",
            expected="one of the two",
            remedy="leave the views out, or choose a probability yourself when you predict",
        )


def _check_values(options: TrainOptions, task: Task) -> None:
    given = {
        "--min-accuracy": options.min_accuracy is not None,
        "--start-from": options.start_from is not None,
        "--class-weight": options.class_weight is not None and task == "regression",
        "--views": bool(options.views),
    }
    for name in (name for name, is_given in given.items() if is_given):
        raise InputError(f"{name} does not apply to {task}", expected="no such option", remedy="leave it out")


def choose_plan(run: TrainingRun, head: Any, progress: Progress) -> TrainPlan:
    """Chooses the kind of head for ``auto``, and the probability from which on to answer for ``min_accuracy``."""
    choice, abstention, notes = None, None, tuple[str, ...]()
    rows, options = run.rows, run.options
    if isinstance(head, str) and head == AUTO:
        choice = _choice(run, progress)
        head, notes = choice.head, (*(note for note in choice.notes if note not in rows.notes), choice.sentence)
    if options.min_accuracy is not None:
        plan = HeadPlan(head, options.params, options.class_weight, seed=options.seed)
        abstention, said = abstention_of(run.store, run.spaces, rows.train, plan, options.min_accuracy)
        notes = tuple(dict.fromkeys((*notes, *said)))
    for note in notes:
        progress.say(note)
    return TrainPlan(head, choice, abstention, notes)


def _choice(run: TrainingRun, progress: Progress) -> HeadChoice:
    dataset, options = run.dataset, run.options
    asked = CompareOptions(
        version=dataset.version,
        target=options.target,
        class_weight=options.class_weight,
        seed=options.seed,
        task=options.task,
    )
    return choose_head(run.store, dataset.name, run.spaces, asked, progress)

"""What is decided before a head is fitted, by held-out training images alone: its kind, and when it should answer."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penult.errors import InputError
from penult.pipeline.evaluation.abstention import Abstention, check_wanted
from penult.pipeline.heads.names import AUTO
from penult.pipeline.progress import Progress
from penult.pipeline.samples.rows import TrainingRows
from penult.pipeline.training.options import Material, TrainOptions

if TYPE_CHECKING:  # so that importing this module does not load scikit-learn
    from penult.pipeline.comparing.choosing import Choice


__all__ = ["Plan", "check_choices", "choose_plan"]


@dataclass(frozen=True)
class Plan:
    """The head to fit, how it was chosen and how far it is to answer, where that was asked, and what to say of it."""

    head: Any
    choice: "Choice | None" = None
    abstention: Abstention | None = None
    notes: tuple[str, ...] = ()

    @property
    def min_confidence(self) -> float:
        """The probability below which the head's best class is no answer."""
        return self.abstention.min_confidence if self.abstention else 0.0


def check_choices(head: Any, options: TrainOptions) -> None:
    """Refuses what cannot be decided together."""
    check_wanted(options.min_accuracy)
    is_auto = isinstance(head, str) and head == AUTO
    if options.class_weight is not None and not is_auto:
        from penult.pipeline.heads.recipe import HeadOptions
        from penult.pipeline.heads.registry import recipe_of

        recipe_of(head, HeadOptions(2, 2, 1, options.seed, options.class_weight), options.params)
    if is_auto and (options.params or options.start_from):
        given = f"the parameters {', '.join(options.params)}" if options.params else "a head to start from"
        raise InputError(
            f"{given} cannot be given to the head {AUTO}, which tries several kinds",
            expected=f"{AUTO} alone",
            remedy="name the head that they are for",
        )
    if options.average_views and not options.views:
        raise InputError(
            "The mean over views was asked for, and no views",
            expected="views such as identity,hflip",
            remedy="name them",
        )
    if options.views and options.min_accuracy is not None:
        raise InputError(
            "an accuracy of the answers cannot be asked for together with views",
            expected="one of the two",
            remedy="leave the views out, or choose a probability yourself when you predict",
        )


def choose_plan(material: Material[TrainingRows], head: Any, progress: Progress) -> Plan:
    """Chooses the kind of head where it is ``auto``, and the probability to answer from where an accuracy is asked."""
    choice, abstention, notes = None, None, tuple[str, ...]()
    rows, options = material.rows, material.options
    if isinstance(head, str) and head == AUTO:
        choice = _choice(material, progress)
        head, notes = choice.head, (*(note for note in choice.notes if note not in rows.notes), choice.sentence)
    if options.min_accuracy is not None:
        from penult.pipeline.comparing.choosing import abstention_of
        from penult.pipeline.heads.out_of_fold import HeadPlan

        plan = HeadPlan(head, options.params, options.class_weight, seed=options.seed)
        abstention, said = abstention_of(material.store, material.spaces, rows.train, plan, options.min_accuracy)
        notes = tuple(dict.fromkeys((*notes, *said)))
    for note in notes:
        progress.say(note)
    return Plan(head, choice, abstention, notes)


def _choice(material: Material[TrainingRows], progress: Progress) -> "Choice":
    from penult.pipeline.comparing.choosing import choose_head
    from penult.pipeline.comparing.compare import CompareOptions

    dataset, options = material.dataset, material.options
    asked = CompareOptions(
        version=dataset.version,
        target=options.target,
        class_weight=options.class_weight,
        seed=options.seed,
        task=options.task,
    )
    return choose_head(material.store, dataset.name, material.spaces, asked, progress)

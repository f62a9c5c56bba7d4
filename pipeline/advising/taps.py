"""Which of a backbone's taps carry the most, and which nobody has looked at."""

from collections.abc import Sequence
from dataclasses import dataclass

from penult.pipeline.comparing.compare import Compared, Try
from penult.pipeline.training.training_rows import Samples
from penult.store import Space, Store

__all__ = ["Taps", "taps_of"]


@dataclass(frozen=True)
class Taps:
    """What a comparison of the features in the store says of those in use, and the taps that are not extracted.

    ``compared`` is None where nothing was compared, and ``used`` where the features in use are not among what was.
    """

    compared: Compared | None
    used: Try | None
    extracted: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def better(self) -> Try | None:
        """The best features, if they are really better than those in use."""
        return self.compared.best if self.compared and self.used and self.used.is_worse else None


def taps_of(store: Store, spaces: Sequence[Space], train: Samples, compared: Compared | None) -> Taps:
    """Sorts the taps of the backbone in use into those that the store has for all training images, and the rest."""
    name = "+".join(space.spec.name for space in spaces)
    used = next((one for one in compared.tries if one.features == name), None) if compared else None
    spec = spaces[0].spec
    whole = {
        space.spec.tap
        for space in store.spaces()
        if (space.spec.fingerprint, space.spec.view) == (spec.fingerprint, "identity")
        and not len(space.missing(train.keys))
    }
    known = [str(tap["name"]) for tap in spec.card.get("taps", ())]
    return Taps(
        compared,
        used,
        tuple(tap for tap in known if tap in whole) or tuple(sorted(whole)),
        tuple(tap for tap in known if tap not in whole),
    )

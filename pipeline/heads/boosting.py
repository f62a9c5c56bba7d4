"""Growing LightGBM's trees with the settings that suit dense embeddings, as many of them as help on held-out rows."""

from dataclasses import dataclass
from inspect import signature
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penult.pipeline.heads.blocks import usable_cores

__all__ = ["Growth"]

MOST_TREES = 1000
USUAL_TREES = 100
PATIENCE = 30
LITTLE_WORK = 1_000_000
"""Below so many values the threads of LightGBM wait for each other far longer than they work."""


@dataclass(frozen=True)
class Growth:
    """How trees are grown: ``kind`` is LightGBM's estimator, ``more`` what it alone takes."""

    kind: Any
    learning_rate: float
    num_leaves: int
    feature_fraction: float
    random_state: int
    n_jobs: int | None
    more: tuple[tuple[str, Any], ...] = ()

    def grown(self, features: NDArray[np.floating], targets: NDArray[Any], out: NDArray[np.bool_] | None) -> Any:
        """Returns the trees on all rows, as many as were best on the rows ``out`` when grown on the others."""
        rounds = USUAL_TREES if out is None else self._best_rounds(features, targets, out)
        return self._trees(rounds, features.shape).fit(features, targets)

    def _best_rounds(self, features: NDArray[np.floating], targets: NDArray[Any], out: NDArray[np.bool_]) -> int:
        from lightgbm import early_stopping

        rest = ~out
        trees = self._trees(MOST_TREES, (int(rest.sum()), features.shape[1]))
        # LightGBM 4.7 calls the one way of naming the held-out rows deprecated; 4.5 does not know the other.
        knows_eval_x = "eval_X" in signature(trees.fit).parameters
        held_out = (
            {"eval_X": features[out], "eval_y": targets[out]}
            if knows_eval_x
            else {"eval_set": [(features[out], targets[out])]}
        )
        trees.fit(features[rest], targets[rest], **held_out, callbacks=[early_stopping(PATIENCE, verbose=False)])
        return max(1, int(trees.best_iteration_))

    def _trees(self, rounds: int, shape: tuple[int, int]) -> Any:
        rows, width = shape
        return self.kind(
            n_estimators=rounds,
            learning_rate=self.learning_rate,
            num_leaves=self.num_leaves,
            colsample_bytree=self.feature_fraction,
            max_bin=63,
            min_child_samples=max(1, min(50, rows // 40)),
            random_state=self.random_state,
            n_jobs=self.n_jobs or (1 if rows * width < LITTLE_WORK else usable_cores()),
            deterministic=True,
            force_row_wise=True,
            verbose=-1,
            **dict(self.more),
        )

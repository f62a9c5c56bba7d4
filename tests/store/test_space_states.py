"""After any sequence of operations, a space behaves like a dict."""

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from numpy.typing import NDArray

from penult.store import Space, open_store
from penult.store.shards.checksums import row_sums
from penult.store.spaces import index
from penult.store.spaces import lookup as indexing
from tests.store.rig.samples import SPEC, keys_of, rows_of

KEYS = keys_of(0, 12)
ADDITIONS = st.lists(st.tuples(st.integers(0, 11), st.integers(0, 2)), min_size=1, max_size=6, unique_by=lambda x: x[0])


def row(key: int, variant: int) -> NDArray[np.float16]:
    return (rows_of(KEYS[key : key + 1]) + variant).astype(np.float16)


def winner(key: int, variants: Iterable[int]) -> NDArray[np.float16]:
    """Returns the row that counts: the one with the lowest checksum."""
    return min(
        (row(key, variant) for variant in variants), key=lambda rows: int(row_sums(KEYS[key : key + 1], rows)[0])
    )


def put(space: Space, additions: list[tuple[int, int]]) -> None:
    space.add(KEYS[[key for key, _ in additions]], np.concatenate([row(*addition) for addition in additions]))


class SpaceMachine(RuleBasedStateMachine):
    """A space with two handles and a dict as its model, under all operations."""

    def __init__(self) -> None:
        super().__init__()
        self.path = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
        self.given: dict[int, set[int]] = {}
        self.saved = indexing.WORTH_ROWS, index.BLOCK_KEYS
        indexing.WORTH_ROWS, index.BLOCK_KEYS = 4, 4

    def teardown(self) -> None:
        indexing.WORTH_ROWS, index.BLOCK_KEYS = self.saved
        shutil.rmtree(self.path)

    @initialize()
    def make(self) -> None:
        self.handles = [open_store(self.path).space(SPEC) for _ in range(2)]

    @rule(additions=ADDITIONS, handle=st.integers(0, 1))
    def add(self, additions: list[tuple[int, int]], handle: int) -> None:
        put(self.handles[handle], additions)
        for key, variant in additions:
            self.given.setdefault(key, set()).add(variant)

    @rule(handle=st.integers(0, 1))
    def checkpoint(self, handle: int) -> None:
        self.handles[handle].checkpoint()

    @rule(handle=st.integers(0, 1))
    def compact(self, handle: int) -> None:
        self.handles[handle].compact()

    @rule(handle=st.integers(0, 1), grace_seconds=st.sampled_from([0.0, 1000.0]))
    def collect(self, handle: int, grace_seconds: float) -> None:
        self.handles[handle].collect(grace_seconds=grace_seconds)

    @rule(handle=st.integers(0, 1))
    def open_again(self, handle: int) -> None:
        self.handles[handle] = open_store(self.path, create=False).spaces()[0]

    @rule(part=st.sampled_from(["index", "tmp", "trash"]))
    def lose_what_is_derived(self, part: str) -> None:
        shutil.rmtree(self.handles[0].path / part, ignore_errors=True)

    @rule()
    def lose_the_newest_manifest(self) -> None:
        manifests = sorted((self.handles[0].path / "manifests").iterdir())
        if manifests:
            manifests[-1].write_bytes(b"")

    @rule(handle=st.integers(0, 1))
    def verify(self, handle: int) -> None:
        report = self.handles[handle].verify(repair=True)
        assert not len(report.keys)

    @rule(handle=st.integers(0, 1), asked=st.lists(st.integers(0, 11), max_size=20))
    def gather(self, handle: int, asked: list[int]) -> None:
        here = [key for key in asked if key in self.given]
        expected = [winner(key, self.given[key])[0] for key in here]
        assert np.array_equal(self.handles[handle].gather(KEYS[here]), np.reshape(expected, (-1, 3)))

    @invariant()
    def is_the_dict(self) -> None:
        for space in self.handles:
            everything = space.load()
            assert {key.tobytes() for key in everything.keys} == {KEYS[key].tobytes() for key in self.given}
            for key, features in zip(everything.keys, everything.features, strict=True):
                number = next(i for i in range(12) if KEYS[i].tobytes() == key.tobytes())
                assert np.array_equal(features, winner(number, self.given[number])[0])
            assert len(space) == len(self.given)
            absent = [key.tobytes() for i, key in enumerate(KEYS) if i not in self.given]
            assert [key.tobytes() for key in space.missing(KEYS)] == absent


QUIET = [HealthCheck.too_slow, HealthCheck.filter_too_much]
TestSpaceStates = SpaceMachine.TestCase
TestSpaceStates.settings = settings(max_examples=15, stateful_step_count=20, deadline=None, suppress_health_check=QUIET)


@pytest.mark.slow
def test_many_states_of_a_space() -> None:
    many = settings(max_examples=400, stateful_step_count=50, deadline=None, suppress_health_check=QUIET)
    run_state_machine_as_test(SpaceMachine, settings=many)

"""The accuracy of the original network without any head, and its own predictions.

The classes of the network differ from the labels. So each class is mapped to the label most common among the training
images predicted as that class. A class that is predicted for no training image is mapped to the most frequent label.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from penult.cores import worker_count
from penult.errors import BackboneError, ImageError
from penult.exporters import Backbone
from penult.exporters.card import LOGITS
from penult.exporters.cpu_session import CpuSession
from penult.exporters.graph.graph_writer import prune
from penult.pipeline.images.decode import decode
from penult.pipeline.images.reading import read_again
from penult.pipeline.runtime.session import Session
from penult.pipeline.samples.rows import Samples, TrainingRows, pick_evenly
from penult.store import Space, Store

__all__ = ["Guess", "NetworkBaseline", "classifier_of", "network_baseline", "original_guesses", "renamed_accuracy"]

TAP = "penultimate"

# At most this many training and test images are predicted from stored features, or read again if these do not suffice.
# The accuracy is then known to about 1 or 4 points.
MOST_ROWS, MOST_READ = 10_000, 128

LOAD_ROWS = 1024


@dataclass(frozen=True)
class NetworkBaseline:
    """The accuracy of the network alone, the number of test images, and the number of its own classes."""

    accuracy: float
    tested: int
    own_classes: int


def network_baseline(backbone: Backbone, store: Store, rows: TrainingRows) -> NetworkBaseline | None:
    """Measures the network alone on the test images; None if it has no classes, or no image can be predicted."""
    if not backbone.card.classes:
        return None
    answers = _from_rows(backbone, store, rows) or _from_images(backbone)
    (train, own_train), (test, own_test) = answers(rows.train), answers(rows.test)
    is_known = np.isin(test, rows.classes)
    if not len(train) or not is_known.any():
        return None
    accuracy = renamed_accuracy(own_train, train, own_test[is_known], test[is_known])
    return NetworkBaseline(accuracy, int(is_known.sum()), len(backbone.card.classes))


def renamed_accuracy(
    own_train: NDArray[np.intp], train: NDArray[np.str_], own_test: NDArray[np.intp], test: NDArray[np.str_]
) -> float:
    """Returns the accuracy on ``test`` when the classes of the network are mapped to labels by ``train``.

    >>> renamed_accuracy(np.array([7, 7, 3]), np.array(["a", "a", "b"]), np.array([7, 3, 9]), np.array(["a", "b", "b"]))
    0.6666666666666666
    """
    names, codes = np.unique(train, return_inverse=True)
    counts = np.zeros((1 + max(own_train.max(), own_test.max()), len(names)), np.intp)
    np.add.at(counts, (own_train, codes), 1)
    counts[counts.sum(axis=1) == 0] = counts.sum(axis=0)
    return float((names[counts.argmax(axis=1)][own_test] == test).mean())


# Returns the labels of the samples that could be predicted, and the network's own class of each.
_Answers = Callable[[Samples], tuple[NDArray[np.str_], NDArray[np.intp]]]


def classifier_of(backbone: Backbone) -> onnx.ModelProto | None:
    """Returns the part of the network from the penultimate vector to the logits; None if there is no such part."""
    if not {TAP, LOGITS} <= set(backbone.outputs):
        return None
    model = backbone.model([TAP, LOGITS])
    nodes = list(model.graph.node)
    vector = next((node.input[0] for node in nodes if TAP in node.output and node.op_type == "Identity"), TAP)
    del model.graph.node[:]
    model.graph.node.extend(node for node in nodes if vector not in node.output)
    cut = prune(model, [LOGITS])
    read = {name for node in cut.graph.node for name in node.input}
    made = {name for node in cut.graph.node for name in node.output} | {part.name for part in cut.graph.initializer}
    if read - made - {""} != {vector}:
        return None
    del cut.graph.input[:], cut.graph.value_info[:]
    cut.graph.input.append(helper.make_tensor_value_info(vector, TensorProto.FLOAT, ["N", backbone.tap(TAP).width]))
    return cut


def _from_rows(backbone: Backbone, store: Store, rows: TrainingRows) -> _Answers | None:
    """Predicts from stored rows, without opening images; None if rows are missing."""
    space, graph = _space_of(backbone, store), classifier_of(backbone)
    if space is None or graph is None or any(len(space.missing(part.keys)) for part in (rows.train, rows.test)):
        return None
    runner = CpuSession(graph.SerializeToString(), f"the classifier of {backbone.name}")

    def answers(samples: Samples) -> tuple[NDArray[np.str_], NDArray[np.intp]]:
        places = np.array(pick_evenly(range(len(samples)), MOST_ROWS))
        loads = (samples.keys[places[start : start + LOAD_ROWS]] for start in range(0, len(places), LOAD_ROWS))
        own = [runner.run([LOGITS], {runner.input_name: space.gather(keys)})[LOGITS].argmax(axis=1) for keys in loads]
        return samples.labels[places].astype(np.str_), np.concatenate(own)

    return answers


def _space_of(backbone: Backbone, store: Store) -> Space | None:
    for space in store.spaces():
        spec = space.spec
        if (spec.fingerprint, spec.tap, spec.view) == (backbone.fingerprint, TAP, "identity"):
            return space
    return None


def _from_images(backbone: Backbone) -> _Answers:
    """Predicts some of the images again; images that can no longer be read are skipped."""
    session = Session(backbone, [LOGITS])

    def own_class(path: str) -> int | None:
        try:
            pixels = decode(read_again(path), backbone.card.preprocessing)
        except (ImageError, OSError):
            return None
        return int(session.run(pixels[np.newaxis])[LOGITS].argmax())

    def answers(samples: Samples) -> tuple[NDArray[np.str_], NDArray[np.intp]]:
        places = np.array(pick_evenly(range(len(samples)), MOST_READ))
        with ThreadPoolExecutor(worker_count()) as pool:
            own = list(pool.map(own_class, [samples.paths[place] for place in places]))
        known = [number for number, answer in enumerate(own) if answer is not None]
        return samples.labels[places[known]].astype(np.str_), np.array([own[number] for number in known], np.intp)

    return answers


@dataclass(frozen=True)
class Guess:
    """One of the classes of the network, and its probability."""

    name: str
    probability: float


def original_guesses(backbone: Backbone, paths: Sequence[str], *, top: int = 5) -> list[list[Guess]]:
    """Returns the ``top`` classes of the original network for each image; none for an unreadable image."""
    if not backbone.card.classes:
        raise BackboneError(f"The backbone {backbone.name!r} has no classifier of its own", expected="one with logits")
    session = Session(backbone, ["logits"])
    return [_guess(session, backbone, path, top) for path in paths]


def _guess(session: Session, backbone: Backbone, path: str, top: int) -> list[Guess]:
    try:
        pixels = decode(read_again(path), backbone.card.preprocessing)
    except (ImageError, OSError):
        return []
    logits = session.run(pixels[np.newaxis])["logits"][0].astype(np.float64)
    probabilities = np.exp(logits - logits.max())
    probabilities /= probabilities.sum()
    names = backbone.card.classes or ()
    best = np.argsort(-probabilities)[:top]
    return [Guess(names[position], float(probabilities[position])) for position in best]

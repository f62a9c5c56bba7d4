"""Other libraries' ways from JPEG files to features, each as its users would run it, at its best setting.

`benchmarks.extract` runs this file in a separate process, in an interpreter that has the peer's library. It reads a
JSON file with the images, network and weights, and prints one JSON line. It imports nothing from penult.
"""

import importlib
import itertools
import json
import os
import resource
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

# A run maps paths of images to features. A peer has a list of settings, and a function that makes a run from one.
Run = Callable[[list[str]], np.ndarray]
Setting = dict[str, Any]
Peer = tuple[list[Setting], Callable[[Setting], Run]]


class LeftOutError(Exception):
    """Why a peer cannot take part in a comparison."""


def torchvision_of() -> Any:
    """Imports torchvision even if its compiled operators, which no classifier uses, belong to another torch."""
    torch = importlib.import_module("torch")
    register = torch.library.register_fake

    def lenient(operator: Any, function: Any = None, /, **options: Any) -> Any:
        if isinstance(operator, str) and operator.startswith("torchvision::"):
            return (lambda given: given) if function is None else function
        return register(operator, function, **options)

    with mock.patch.object(torch.library, "register_fake", lenient):
        return importlib.import_module("torchvision")


def torch_network(spec: dict[str, Any]) -> Any:
    """Returns the network that penult's backbone was exported from, with the same weights, without its classifier."""
    import torch

    library, name = spec["network"].split(":")
    if library == "timm":
        torchvision_of()
        model = importlib.import_module("timm").create_model(name)
    else:
        model = torchvision_of().models.get_model(name, weights=None)
    model.load_state_dict(torch.load(spec["weights"], weights_only=True))
    if library == "timm":
        model.reset_classifier(0)
    elif hasattr(model, "fc"):
        model.fc = torch.nn.Identity()
    else:
        model.classifier = torch.nn.Identity()
    return model.eval()


class Photos:
    """The images as a PyTorch dataset."""

    def __init__(self, paths: list[str], transform: Any) -> None:
        self.paths, self.transform = paths, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Any:
        from PIL import Image

        with Image.open(self.paths[index]) as image:
            return self.transform(image.convert("RGB"))


def transform_of(spec: dict[str, Any]) -> Any:
    torchvision_of()
    transforms = importlib.import_module("torchvision.transforms")
    card = spec["card"]
    resize, crop = card["preprocessing"]["resize"], card["preprocessing"]["crop"]
    mean, std = ([value / 255 for value in card["normalisation"][part]] for part in ("mean", "std"))
    return transforms.Compose(
        [
            transforms.Resize(resize, transforms.InterpolationMode(card["preprocessing"]["interpolation"])),
            transforms.CenterCrop(crop),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )


def torch_loader(spec: dict[str, Any]) -> Peer:
    """A DataLoader and the model in eval and inference mode, channels last."""
    import torch

    model = torch_network(spec).to(memory_format=torch.channels_last)
    transform = transform_of(spec)
    counts = sorted({0, 1, CORES})
    settings = [
        {"loader workers": workers, "threads": threads, "batch": batch}
        for workers, threads, batch in itertools.product(counts, sorted({1, CORES}), (8, 32))
    ]

    def make(setting: Setting) -> Run:
        def run(paths: list[str]) -> np.ndarray:
            torch.set_num_threads(setting["threads"])
            loader = torch.utils.data.DataLoader(
                Photos(paths, transform),  # type: ignore[arg-type]  # it has the two methods that a data set needs
                batch_size=setting["batch"],
                num_workers=setting["loader workers"],
            )
            with torch.inference_mode():
                parts = [model(batch.to(memory_format=torch.channels_last)).numpy() for batch in loader]
            return np.concatenate(parts)

        return run

    return settings, make


KERAS_NAMES = {"torchvision:resnet50": "ResNet50", "torchvision:mobilenet_v2": "MobileNetV2"}


def keras_predict(spec: dict[str, Any]) -> Peer:
    """Keras's network of the same name, with its own random weights, and ``predict`` over a dataset."""
    import torch

    if spec["network"] not in KERAS_NAMES:
        raise LeftOutError("it does not have this network")
    os.environ.setdefault("KERAS_BACKEND", "torch")
    keras = importlib.import_module("keras")
    name = KERAS_NAMES[spec["network"]]
    model = getattr(keras.applications, name)(weights=None, include_top=False, pooling="avg", input_shape=(224, 224, 3))
    home = {"ResNet50": keras.applications.resnet, "MobileNetV2": keras.applications.mobilenet_v2}[name]

    class Batches(keras.utils.PyDataset):  # type: ignore[misc]  # Keras is not typed
        def __init__(self, paths: list[str], setting: Setting) -> None:
            super().__init__(workers=max(setting["loader workers"], 1), max_queue_size=4)
            self.paths, self.batch = paths, setting["batch"]

        def __len__(self) -> int:
            return (len(self.paths) + self.batch - 1) // self.batch

        def __getitem__(self, index: int) -> np.ndarray:
            paths = self.paths[index * self.batch : (index + 1) * self.batch]
            load = keras.utils.load_img
            images = [np.asarray(load(path, target_size=(224, 224), interpolation="bilinear")) for path in paths]
            return np.asarray(home.preprocess_input(np.stack(images).astype("float32")))

    settings = [
        {"loader workers": workers, "threads": threads, "batch": batch}
        for workers, threads, batch in itertools.product(sorted({1, CORES}), sorted({1, CORES}), (8, 32))
    ]

    def make(setting: Setting) -> Run:
        def run(paths: list[str]) -> np.ndarray:
            torch.set_num_threads(setting["threads"])
            return np.asarray(model.predict(Batches(paths, setting), verbose=0))

        return run

    return settings, make


def img2vec(spec: dict[str, Any]) -> Peer:
    """``Img2Vec.get_vec`` over lists of images; it resizes without a crop, so its pixels differ slightly."""
    import torch
    from PIL import Image

    if spec["network"] != "torchvision:resnet50":
        raise LeftOutError("it does not have this network")
    torchvision = torchvision_of()
    network = torchvision.models.resnet50(weights=None)
    network.load_state_dict(torch.load(spec["weights"], weights_only=True))
    library = importlib.import_module("img2vec_pytorch.img_to_vec")
    with mock.patch.object(library, "resnet50", return_value=network):  # by default it downloads the weights
        vectors = library.Img2Vec(cuda=False, model="resnet50", layer_output_size=2048)

    def make(setting: Setting) -> Run:
        def run(paths: list[str]) -> np.ndarray:
            torch.set_num_threads(setting["threads"])
            parts = []
            for start in range(0, len(paths), setting["batch"]):
                images = [Image.open(path).convert("RGB") for path in paths[start : start + setting["batch"]]]
                parts.append(vectors.get_vec(images))
            return np.concatenate(parts)

        return run

    return [{"threads": CORES, "batch": batch} for batch in (1, 8, 32)], make


def fastembed(spec: dict[str, Any]) -> Peer:
    """``ImageEmbedding`` with the same graph before penult's changes, in a folder like those that it downloads."""
    if spec["network"] != "torchvision:resnet50":
        raise LeftOutError("it does not have this network")
    library = importlib.import_module("fastembed")
    settings: list[Setting] = [
        {"threads": threads, "batch": batch} for threads, batch in ((CORES, 1), (CORES, 8), (CORES, 32))
    ]

    def make(setting: Setting) -> Run:
        model = library.ImageEmbedding(
            "Qdrant/resnet50-onnx", specific_model_path=spec["plain"], threads=setting["threads"], cuda=False
        )

        def run(paths: list[str]) -> np.ndarray:
            return np.stack(list(model.embed(paths, batch_size=setting["batch"])))

        return run

    return settings, make


def thingsvision(spec: dict[str, Any]) -> Peer:
    """Its extractor for torchvision's networks, with its own loader."""
    import torch

    if not spec["network"].startswith("torchvision:"):
        raise LeftOutError("its networks are torchvision's")
    importlib.import_module("thingsvision")
    from thingsvision import get_extractor_from_model
    from thingsvision.utils.data import DataLoader, ImageDataset

    model, transform = torch_network(spec), transform_of(spec)
    extractor = get_extractor_from_model(model=model, device="cpu", transforms=transform, backend="pt")
    layer = [name for name, _ in model.named_modules() if name][-1]

    def make(setting: Setting) -> Run:
        def run(paths: list[str]) -> np.ndarray:
            torch.set_num_threads(setting["threads"])
            folder = Path(paths[0]).parent
            dataset = ImageDataset(
                root=str(folder),
                out_path=str(Path(spec["room"]) / "thingsvision"),
                backend="pt",
                transforms=transform,
                file_names=[Path(path).name for path in paths],
            )
            batches = DataLoader(dataset=dataset, batch_size=setting["batch"], backend="pt")
            return np.asarray(extractor.extract_features(batches=batches, module_name=layer, flatten_acts=True))

        return run

    return [{"threads": CORES, "batch": batch} for batch in (8, 32)], make


PEERS: dict[str, tuple[str, Callable[[dict[str, Any]], Peer]]] = {
    "PyTorch DataLoader": ("torchvision", torch_loader),
    "Keras predict": ("keras", keras_predict),
    "img2vec": ("img2vec_pytorch", img2vec),
    "fastembed": ("fastembed", fastembed),
    "thingsvision": ("thingsvision", thingsvision),
}
"""Each peer's name, and the library that it needs."""


def spent_cpu() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def peak_bytes() -> int:
    """Returns the peak of this process plus that of its largest child; all children together may have used more."""
    peaks = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return 1024 * sum(peaks)


def measured(run: Run, paths: list[str]) -> tuple[float, float, np.ndarray]:
    cpu, wall = spent_cpu(), time.perf_counter()
    features = run(paths)
    return time.perf_counter() - wall, spent_cpu() - cpu, features


def main() -> None:
    warnings.simplefilter("ignore")
    name, spec = sys.argv[1], json.loads(Path(sys.argv[2]).read_text())
    try:
        settings, make = PEERS[name][1](spec)
    except (LeftOutError, ImportError) as reason:
        print("RESULT " + json.dumps({"left_out": f"{reason}"[:200]}))
        return
    paths = spec["images"]
    setting = spec.get("setting")
    if setting is None:  # try each setting, and use the best
        few = paths[: spec["trial"]]
        make(settings[0])(few[:2])
        setting = min(settings, key=lambda tried: measured(make(tried), few)[0])
    run = make(setting)
    run(paths[:2])  # first-use work happens before the clock starts
    wall, cpu, features = measured(run, paths)
    np.save(Path(spec["room"]) / "features.npy", features.astype(np.float16))
    print("RESULT " + json.dumps({"seconds": wall, "cpu": cpu, "peak_bytes": peak_bytes(), "setting": setting}))


if __name__ == "__main__":
    main()

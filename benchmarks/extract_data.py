"""The inputs of the extraction benchmark: JPEG files of two sizes made from real photos, and backbones.

    PYTHONPATH=src:. python benchmarks/extract_data.py NETWORK FOLDER PHOTOS    writes a network's weights and backbone

Run this command in an interpreter that has the network's library.
"""

import importlib
import sys
from pathlib import Path

SMALL = (500, 375)
MOSAIC = 8  # by 8 small photos are 4000 x 3000 pixels, with the detail of real photos


def make_small(photos: list[Path], folder: Path, count: int) -> list[str]:
    """Writes ``count`` different images of 500 x 375."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for number in range(count):
        path = folder / f"{number:05d}.jpg"
        if not path.exists():
            _photo(photos, number).save(path, quality=90)
        made.append(str(path))
    return made


def make_large(photos: list[Path], folder: Path, count: int) -> list[str]:
    """Writes ``count`` different images of 12 megapixels, each a mosaic of photos."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for number in range(count):
        path = folder / f"{number:05d}.jpg"
        if not path.exists():
            mosaic = Image.new("RGB", (MOSAIC * SMALL[0], MOSAIC * SMALL[1]))
            for place in range(MOSAIC * MOSAIC):
                tile = _photo(photos, number * 7 + place)
                mosaic.paste(tile, (place % MOSAIC * SMALL[0], place // MOSAIC * SMALL[1]))
            mosaic.save(path, quality=90)
        made.append(str(path))
    return made


def _photo(photos, number):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 - Pillow is imported late
    from PIL import Image, ImageOps

    with Image.open(photos[number % len(photos)]) as image:
        turn = number // len(photos)
        # Another crop of the same photo counts as another image.
        edge = turn % 16
        fitted = ImageOps.fit(image.convert("RGB"), (SMALL[0] + edge, SMALL[1] + edge)).crop(
            (edge, edge, edge + SMALL[0], edge + SMALL[1])
        )
        return ImageOps.mirror(fitted) if turn // 16 % 2 else fitted


def photos_of(folder: Path) -> list[Path]:
    """Returns the readable photos in a folder."""
    from PIL import Image

    found = []
    for path in sorted(folder.rglob("*.jp*g")):
        try:
            with Image.open(path) as image:
                image.verify()
        except Exception:  # noqa: BLE001 - an unreadable file is not used
            continue
        found.append(path)
    return found


def settle(model, photos):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201 - torch is imported late
    """Sets BatchNorm's statistics from photos; otherwise values would shrink too much with random weights."""
    import numpy as np
    import torch
    from PIL import Image, ImageOps

    pixels = []
    for path in photos:
        with Image.open(path) as image:
            pixels.append(np.asarray(ImageOps.fit(image.convert("RGB"), (224, 224)), np.float32))
    batch = torch.from_numpy((np.stack(pixels) / 255 - 0.45) / 0.225).permute(0, 3, 1, 2)
    for part in model.modules():
        if isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
            part.momentum = None  # the mean over all inputs
    with torch.no_grad():
        model.train()(batch)
    return model.eval()


def write_network(network: str, folder: Path, photos: list[Path]) -> None:
    """Writes ``weights.pth``, ``backbone.onnx`` (penult's) and ``plain/`` (the source's own graph)."""
    import json

    import onnx
    import torch
    from benchmarks.extract_peers import torchvision_of

    torchvision = torchvision_of()
    library, name = network.split(":")
    torch.manual_seed(0)
    if library == "timm":
        model = importlib.import_module("timm").create_model(name)
    else:
        model = torchvision.models.get_model(name, weights=None)
    weights = folder / "weights.pth"
    torch.save(settle(model, photos).state_dict(), weights)

    from penult.exporters.exporting import export_network
    from penult.exporters.requests import ExportRequest
    from penult.exporters.sources.lookup import find_source
    from penult.pipeline.images.decode import decode

    request = ExportRequest(taps=())
    exporter, rest = find_source(f"{network}@{weights}")
    source = exporter(rest, request)
    export_network(source, request, decode=decode).save(folder / "backbone.onnx")
    (folder / "plain").mkdir(exist_ok=True)
    onnx.save(source.model, folder / "plain" / "model.onnx")
    size, crop = source.preprocessing.resize, source.preprocessing.crop
    processor = {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": size},
        "resample": 2,
        "do_center_crop": True,
        "crop_size": {"height": crop[0], "width": crop[1]},
        "do_rescale": True,
        "do_normalize": True,
        "image_mean": [value / 255 for value in source.normalisation.mean],
        "image_std": [value / 255 for value in source.normalisation.std],
    }
    (folder / "plain" / "preprocessor_config.json").write_text(json.dumps(processor))
    (folder / "plain" / "config.json").write_text("{}")


if __name__ == "__main__":
    write_network(sys.argv[1], Path(sys.argv[2]), photos_of(Path(sys.argv[3]))[:24])

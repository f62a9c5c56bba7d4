"""BatchNorm statistics are fitted to random weights, with the same result on every machine."""

import os
from typing import Any

import numpy as np
import pytest

from penult.exporters import Normalisation
from penult.exporters.exporting import export
from penult.exporters.requests import FAMILIES, ExportRequest, parse_taps
from penult.exporters.sources.norm_calibration import calibrate_keras, calibrate_torch, calibration_batch
from penult.pipeline.images.decode import decode
from tests.exporters.torchvision_shim import import_or_skip

os.environ.setdefault("KERAS_BACKEND", "torch")
import_or_skip("torch", "torchvision")

BATCH = calibration_batch((64, 48), FAMILIES["torch"])


def growing(gain: float) -> Any:
    """Layers that each multiply the magnitude by about ``gain``, with random means and variances."""
    import torch
    from torch import nn

    with torch.random.fork_rng():
        torch.manual_seed(1)
        layers: list[Any] = []
        for width in (3, 8, 8, 8, 8, 8):
            layers += [nn.Conv2d(width, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
            layers[-2].running_mean.uniform_(-0.1, 0.1)
            layers[-2].running_var.uniform_(0.5, 1.5)
        network = nn.Sequential(*layers)
        with torch.no_grad():
            for layer in network[::3]:
                layer.weight.normal_(0, gain * (2 / (9 * layer.weight.shape[1])) ** 0.5)
    return network.eval()


def sizes(network: Any) -> list[float]:
    import torch

    found, values = [], torch.from_numpy(BATCH.transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        for layer in network:
            values = layer(values)
            if isinstance(layer, torch.nn.BatchNorm2d):
                found.append(float(values.square().mean().sqrt()))
    return found


class TestTorch:
    @pytest.mark.parametrize("gain", [30.0, 1 / 30])
    def test_activations_keep_their_magnitude(self, gain: float) -> None:
        network = growing(gain)
        assert max(sizes(network)) > 1e6 or max(sizes(network)) < 0.2
        assert calibrate_torch(network, BATCH) == 6
        assert all(0.6 < size < 1.6 for size in sizes(network))  # within half an octave, plus the random means

    def test_statistics_are_scaled_by_one_power_of_two_per_layer(self) -> None:
        drawn, network = growing(30), growing(30)
        calibrate_torch(network, BATCH)
        for old, new in zip(drawn[1::3], network[1::3], strict=True):
            (power,) = {float(scale) for scale in np.log2(new.running_mean.numpy() / old.running_mean.numpy())}
            assert power == round(power)
            np.testing.assert_array_equal(new.running_var.numpy(), old.running_var.numpy() * 4**power)

    def test_other_rounding_gives_the_same_statistics(self) -> None:
        import torch

        once, other = growing(30), growing(30)
        calibrate_torch(once, BATCH)
        noise = np.random.default_rng(0).normal(size=BATCH.shape)
        calibrate_torch(other, (BATCH * (1 + 1e-5 * noise)).astype(np.float32))
        for name, value in once.state_dict().items():
            assert torch.equal(value, other.state_dict()[name])

    def test_layers_that_run_twice_or_never_stay_valid(self) -> None:
        import torch
        from torch import nn

        class Reusing(nn.Module):  # type: ignore[misc]  # torch may be absent where types are checked
            def __init__(self) -> None:
                super().__init__()
                self.norm, self.unused = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

            def forward(self, image: Any) -> Any:
                return self.norm(64 * self.norm(image * 1024))

        network = Reusing()
        assert calibrate_torch(network, BATCH) == 1
        power = round(np.log2(1024 * np.sqrt(np.square(BATCH).mean())))
        assert network.norm.running_var[0] == 4.0**power
        assert torch.equal(network.unused.running_var, torch.ones(3))
        assert not network.norm._forward_pre_hooks
        assert not network.unused._forward_pre_hooks


@pytest.mark.slow
@pytest.mark.usefixtures("torchvision")
def test_a_network_that_amplifies_rounding_agrees_after_calibration() -> None:
    """The gates of this network amplify contrast, and with it rounding errors."""
    import_or_skip("timm")
    request = ExportRequest(taps=parse_taps("penultimate"), weights="random")
    outputs = export("timm:efficientnetv2_rw_t", request, decode=decode).card.proof["outputs"]
    assert max(each["relative_error"] for each in outputs.values()) < 1e-5


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # from Keras
class TestKeras:
    def test_activations_keep_their_magnitude_and_layers_are_restored(self) -> None:
        pytest.importorskip("keras")
        import keras
        from keras import layers

        image = keras.Input((64, 48, 3))
        values = image
        for index in range(4):
            start = keras.initializers.RandomNormal(stddev=9.0, seed=index)
            values = layers.Conv2D(8, 3, kernel_initializer=start, use_bias=False)(values)
            values = layers.ReLU()(layers.BatchNormalization(name=f"norm{index}")(values))
        model = keras.Model(image, values)
        norms = [model.get_layer(f"norm{index}") for index in range(4)]
        between = keras.Model(image, [norm.output for norm in norms])
        before = [float(np.abs(value.detach().numpy()).mean()) for value in between(BATCH, training=False)]
        assert before[-1] > 1e5 * before[0]
        assert calibrate_keras(model, BATCH) == 4
        for value in between(BATCH, training=False):
            assert 0.7 < float(np.sqrt(np.square(value.detach().numpy()).mean())) < 1.42
        assert not any("call" in vars(norm) for norm in norms)


def test_the_batch_is_normalised_for_the_network() -> None:
    raw = calibration_batch((6, 5), FAMILIES["raw"])
    assert raw.shape == (2, 6, 5, 3)
    assert str(raw.dtype) == "float32"
    turned = calibration_batch((6, 5), Normalisation("bgr", (1.0, 2.0, 3.0), (2.0, 2.0, 2.0)))
    assert set(np.unique(raw)) == {0, 255}
    np.testing.assert_allclose(turned[..., 0], (raw[..., 2] - 1) / 2)

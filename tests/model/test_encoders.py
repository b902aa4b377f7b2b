"""The encoders compared with torchvision's, and good and bad files of weights."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from mgap_cli.config import ModelConfig
from mgap_cli.errors import ExitCode, UnfitError, UsageError
from mgap_cli.modalities.features import array_modality
from mgap_cli.modalities.modality import Modality
from mgap_cli.model.encoders import build_encoder, load_encoder
from mgap_cli.model.encoders.residual import ResNet
from mgap_cli.model.network import MultimodalNetwork


def resnet(name: str, channels: int, width: int) -> ResNet:
    return load_encoder(name)(Modality("made", "spectrogram", channels), ModelConfig(width=width))


@pytest.fixture(scope="module")
def published() -> nn.Module:
    """torchvision's resnet18 whose running statistics are not the initial ones."""
    torch.manual_seed(0)
    network = torchvision.models.resnet18(weights=None)
    network.train()
    with torch.no_grad():
        network(torch.randn(8, 3, 64, 64))
    return network.eval()


@pytest.fixture(scope="module")
def weights(published, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(published.state_dict(), path)
    return path


def features(published: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The input of the classifier."""
    outputs = []
    handle = published.fc.register_forward_pre_hook(lambda _, given: outputs.append(given[0]))
    with torch.no_grad():
        published(x)
    handle.remove()
    return outputs[0]


def test_resnet18_of_width_64_is_torchvisions(published):
    ours = resnet("resnet18", 3, 64).eval()
    ours.load_state_dict({k: v for k, v in published.state_dict().items() if not k.startswith("fc.")})
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        out = ours(x)
    assert out.shape == (2, ours.features) == (2, 512)
    torch.testing.assert_close(out, features(published, x))


def test_weight_file_with_three_channels(published, weights):
    ours = resnet("resnet18", 3, 64).eval()
    ours.load_torchvision(str(weights))
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(ours(x), features(published, x))


def test_weight_file_with_one_channel_sums_the_first_convolution(published, weights):
    ours = resnet("resnet18", 1, 64).eval()
    ours.load_torchvision(str(weights))
    grey = torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        out = ours(grey)
    torch.testing.assert_close(out, features(published, grey.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-4)


def test_the_network_takes_weight_files_for_either_modality(published, weights):
    network = MultimodalNetwork(ModelConfig(audio_weights=str(weights), visual_weights=str(weights)), 3)
    first = published.conv1.weight
    assert torch.equal(network.encoders["visual"].conv1.weight, first)
    torch.testing.assert_close(network.encoders["audio"].conv1.weight, first.sum(dim=1, keepdim=True))
    assert torch.equal(network.encoders["audio"].layer4[1].conv2.weight, published.layer4[1].conv2.weight)


def write_text(path: Path, _) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\n")


def write_truncated(path: Path, weights: Path) -> None:
    path.write_bytes(weights.read_bytes()[:100_000])


def write_list(path: Path, _) -> None:
    torch.save([1, 2, 3], path)


def write_module(path: Path, _) -> None:
    torch.save(nn.Linear(2, 2), path)  # a pickle that must not be executed


def write_partial(path: Path, weights: Path) -> None:
    state = torch.load(weights, weights_only=True)
    torch.save({k: v for k, v in state.items() if not k.startswith("layer3")}, path)


def write_nothing(path: Path, _) -> None:
    pass


@pytest.mark.parametrize(
    "write", [write_text, write_truncated, write_list, write_module, write_partial, write_nothing]
)
def test_a_bad_weight_file_is_unfit_and_named(write, weights, tmp_path):
    path = tmp_path / "bad.pth"
    write(path, weights)
    with pytest.raises(UnfitError, match=r"bad\.pth") as caught:
        resnet("resnet18", 3, 64).load_torchvision(str(path))
    assert caught.value.exit_code == ExitCode.UNFIT
    assert "\n" not in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(("name", "width"), [("resnet10", 64), ("resnet18", 16)])
def test_weights_of_another_architecture_are_unfit(name, width, weights):
    with pytest.raises(UnfitError):
        resnet(name, 3, width).load_torchvision(str(weights))


@pytest.mark.parametrize(("name", "convolutions"), [("resnet18", 20), ("resnet10", 12)])
@pytest.mark.parametrize("size", [(32, 32), (65, 63), (17, 9)])
def test_shapes(name, convolutions, size):
    encoder = resnet(name, 1, 4).eval()
    assert encoder(torch.zeros(2, 1, *size)).shape == (2, 32)
    assert sum(isinstance(m, nn.Conv2d) for m in encoder.modules()) == convolutions


def test_initial_weights_are_kaiming_and_xavier():
    torch.manual_seed(0)
    network = MultimodalNetwork(ModelConfig(encoder="resnet10", width=32), 40)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * math.prod(module.kernel_size)
            assert module.weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.1)
        elif isinstance(module, nn.Linear):
            spread = math.sqrt(2 / (module.in_features + module.out_features))
            assert module.weight.std().item() == pytest.approx(spread, rel=0.1)
            assert (module.bias == 0).all()


def sequence(lengths: list[int], steps: int = 9, size: int = 4) -> torch.Tensor:
    """Draw sequences (B, T, D) that have NaN after the length of each."""
    drawn = torch.randn(len(lengths), steps, size, generator=torch.Generator().manual_seed(3))
    for row, length in enumerate(lengths):
        drawn[row, length:] = torch.nan
    return drawn


@pytest.mark.parametrize("name", ["mlp", "temporal"])
def test_padding_does_not_change_the_features_of_a_sequence(name):
    torch.manual_seed(0)
    encoder = build_encoder(array_modality("touch", (9, 4)), ModelConfig(encoders={"touch": name}, hidden=6))
    given = sequence([9, 5, 2])
    encoder.train()
    encoder(given)  # running statistics of the valid steps
    assert all(value.isfinite().all() for value in encoder.state_dict().values())
    encoder.eval()
    alone = [encoder(given[i : i + 1, :length]) for i, length in enumerate((9, 5, 2))]
    features_of = encoder(given)
    assert features_of.shape == (3, 6) and encoder.features == 6
    torch.testing.assert_close(features_of, torch.cat(alone))
    assert encoder(torch.full((1, 9, 4), torch.nan)).isfinite().all()


def test_temporal_depends_on_the_order_of_the_steps_and_mlp_does_not():
    given = sequence([9, 9])
    for name, depends in (("temporal", True), ("mlp", False)):
        torch.manual_seed(0)
        settings = ModelConfig(encoders={"touch": name}, hidden=6)
        encoder = build_encoder(array_modality("touch", (9, 4)), settings).eval()
        assert torch.allclose(encoder(given), encoder(given.flip(1)), atol=1e-6) != depends


def clips(frames: int = 5, size: int = 16) -> torch.Tensor:
    """Draw frames (2, T, 3, S, S) in [0, 1]."""
    return torch.rand(2, frames, 3, size, size, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("name", ["motion", "resnet10"])
def test_only_motion_sees_the_order_of_frames_and_it_does_not_see_what_is_still(name):
    torch.manual_seed(0)
    settings = ModelConfig(encoder=name, width=4, hidden=6)
    network = MultimodalNetwork(settings, 3).eval()
    moving, still = clips(), torch.rand(2, 1, 3, 16, 16, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        given, reversed_, shifted = (
            network.encode("visual", c) for c in (moving, moving.flip(1), moving + still)
        )
    assert given.shape == (2, network.encoders["visual"].features)
    sees_order = not torch.allclose(given, reversed_, atol=1e-6)
    sees_still = not torch.allclose(given, shifted, atol=1e-6)
    assert (sees_order, sees_still) == ((True, False) if name == "motion" else (False, True))


def test_motion_refuses_clips_of_one_frame():
    encoder = build_encoder(Modality("visual", "frames", 3), ModelConfig(encoder="motion", width=4))
    with pytest.raises(UsageError, match="one frame each") as caught:
        encoder(clips(1))
    assert "data.frames=8" in caught.value.hint


def test_the_encoder_of_a_modality():
    spectrogram, text = Modality("audio", "spectrogram", 1), array_modality("text", (7,))
    small = ModelConfig(encoder="resnet10", width=4)
    assert build_encoder(spectrogram, small).name == "resnet10"
    assert build_encoder(text, small).name == "mlp"
    assert build_encoder(array_modality("motion", (5, 7)), small).name == "temporal"
    assert build_encoder(array_modality("motion", (5, 7)), ModelConfig(encoder="mlp")).name == "mlp"
    with pytest.raises(UsageError, match=r"temporal does not accept text.*features") as caught:
        build_encoder(text, ModelConfig(encoders={"text": "temporal"}))
    assert "model.encoders.text=mlp" in caught.value.hint


def test_a_network_refuses_an_encoder_for_a_modality_that_it_does_not_have():
    with pytest.raises(UsageError, match=r"model\.encoders\.visul") as caught:
        MultimodalNetwork(ModelConfig(encoders={"visul": "resnet10"}), 3)
    assert "model.encoders.visual" in caught.value.hint

"""Encoders of torchvision: the same features as its networks, and one clear error for other files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from mgap_cli.config import Config, ModelConfig
from mgap_cli.errors import UnfitError
from mgap_cli.modalities.modality import Modality
from mgap_cli.model.encoders import load_encoder
from mgap_cli.model.encoders.torchvision_weights import TorchvisionEncoder, standardised

FEATURES = {"resnet18": 512, "resnet34": 512, "resnet50": 2048, "convnext-tiny": 768, "vit-b-16": 768}
FRAMES, SPECTROGRAM = Modality("visual", "frames", 3), Modality("audio", "spectrogram", 1)


def build(name: str, modality: Modality = FRAMES, **settings: object) -> TorchvisionEncoder:
    encoder = load_encoder(name)(modality, ModelConfig(**settings))
    assert isinstance(encoder, TorchvisionEncoder)
    return encoder


def published(name: str) -> nn.Module:
    return getattr(torchvision.models, name.replace("-", "_"))(weights=None)


def shapes(state: dict[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in state.items()}


@pytest.mark.parametrize("name", FEATURES)
def test_parameters_are_torchvisions_without_the_classifier(name):
    with torch.device("meta"):
        ours, theirs = build(name), published(name)
    kept = {k: v for k, v in theirs.state_dict().items() if not k.startswith(ours.classifier)}
    assert shapes(ours.weight_module.state_dict()) == shapes(kept)
    assert len(kept) < len(theirs.state_dict())
    assert ours.features == FEATURES[name] and ours.torchvision_name == name.replace("-", "_")


def untrained(name: str) -> nn.Module:
    """torchvision's network with values that are not its initial ones, such as running statistics."""
    torch.manual_seed(0)
    network = published(name)
    with torch.no_grad():
        for key, value in network.state_dict().items():
            if value.is_floating_point() and value.dim() < 4:
                value.add_(torch.rand_like(value) * (0.1 if "weight" in key else 0.01))
    return network.eval()


def features(network: nn.Module, classifier: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The input of the classifier."""
    outputs = []
    handle = classifier.register_forward_pre_hook(lambda _, given: outputs.append(given[0]))
    with torch.no_grad():
        network(x)
    handle.remove()
    return outputs[0]


@pytest.mark.parametrize("name", ["resnet34", "resnet50", "convnext-tiny"])
def test_a_weight_file_gives_torchvisions_features(name, tmp_path):
    theirs = untrained(name)
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    classifier = theirs.classifier[2] if name == "convnext-tiny" else theirs.fc
    frames = torch.randn(2, 3, 64, 48)
    ours = build(name).eval()
    ours.load_torchvision(str(tmp_path / "weights.pth"))
    with torch.no_grad():
        torch.testing.assert_close(ours(frames), features(theirs, classifier, frames), rtol=1e-4, atol=1e-4)
    grey = torch.randn(2, 1, 40, 56)
    ours = build(name, SPECTROGRAM).eval()
    ours.load_torchvision(str(tmp_path / "weights.pth"))
    seen = standardised(grey) if name == "convnext-tiny" else grey
    expected = features(theirs, classifier, seen.expand(-1, 3, -1, -1))
    with torch.no_grad():
        torch.testing.assert_close(ours(grey), expected, rtol=1e-3, atol=1e-3)


def test_vit_resizes_and_standardises_a_spectrogram(monkeypatch):
    theirs = untrained("vit-b-16")
    monkeypatch.setattr(TorchvisionEncoder, "_read", lambda self, path: theirs.state_dict())
    ours = build("vit-b-16", SPECTROGRAM).eval()
    ours.load_torchvision("unread")  # a file would have 344 MB
    grey = 5 * torch.randn(1, 1, 60, 40) - 7
    resized = torch.nn.functional.interpolate(
        (grey - grey.mean()) / grey.std(correction=0), size=(224, 224), mode="bilinear", antialias=True
    )
    with torch.no_grad():
        features_of = ours(grey)
    assert features_of.shape == (1, 768)
    expected = features(theirs, theirs.heads, resized.expand(-1, 3, -1, -1))
    torch.testing.assert_close(features_of, expected, rtol=1e-3, atol=1e-3)


def test_standardised_inputs_have_mean_0_and_sd_1_and_a_constant_one_stays_finite():
    features_of = standardised(torch.stack([3 + 7 * torch.randn(1, 9, 11), torch.full((1, 9, 11), 4.0)]))
    assert features_of[0].mean().item() == pytest.approx(0, abs=1e-5)
    assert features_of[0].std(correction=0).item() == pytest.approx(1, abs=1e-4)
    assert (features_of[1] == 0).all()


@pytest.fixture(scope="module")
def resnet34(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "resnet34.pth"
    torch.save(published("resnet34").state_dict(), path)
    return path


PROBLEMS = {
    "missing": "no such file",
    "folder": "not a file",
    "text": "cannot be read as a state dict",
    "a list": "holds a list, not a state dict",
    "wrapped": "more than named tensors",
    "another architecture": "102 of its 318 tensors are missing, such as layer1.0.conv3.weight",
    "shape": r"conv1\.weight has shape \(64, 3, 5, 5\), and here it is \(64, 3, 7, 7\)",
    "not finite": r"layer1\.0\.conv1\.weight has values that are not finite",
}


@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_wrong_weight_file_is_one_error_of_two_lines(problem, resnet34, tmp_path):
    path, name = tmp_path / "bad.pth", "resnet34"
    state = torch.load(resnet34, weights_only=True)
    if problem == "folder":
        path.mkdir()
    elif problem == "text":
        path.write_text("version https://git-lfs.github.com/spec/v1\n")
    elif problem == "a list":
        torch.save([1, 2], path)
    elif problem == "wrapped":
        torch.save({"epoch": 3, "state_dict": {"a": torch.ones(1)}}, path)
    elif problem == "another architecture":
        path, name = resnet34, "resnet50"
    elif problem == "shape":
        torch.save({**state, "conv1.weight": torch.zeros(64, 3, 5, 5)}, path)
    elif problem == "not finite":
        state["layer1.0.conv1.weight"][0, 0, 0, 0] = torch.nan
        torch.save(state, path)
    with pytest.raises(UnfitError, match=PROBLEMS[problem]) as caught:
        build(name).load_torchvision(str(path))
    assert str(path) in caught.value.message and "\n" not in caught.value.message
    assert f"torchvision.models.{name}(" in caught.value.hint and "\n" not in caught.value.hint


def test_tensors_of_a_deeper_network_are_named(resnet34):
    with pytest.raises(UnfitError, match=r"96 tensors are of another architecture, such as layer1\.2\.conv1"):
        build("resnet18").load_torchvision(str(resnet34))


@pytest.mark.parametrize("name", ["convnext-tiny", "vit-b-16"])
def test_a_reset_draws_every_parameter_again(name):
    """A module is reset as in training: `reset_parameters` of every part, then the rule of the network."""
    from mgap_cli.model.network import initialise

    with torch.device("meta"):
        encoder = build(name)
    encoder.to_empty(device="cpu")
    with torch.no_grad():
        for value in encoder.state_dict().values():
            value.fill_(torch.nan)
    for part in encoder.modules():
        if callable(draw := getattr(part, "reset_parameters", None)):
            draw()
    encoder.apply(initialise)
    assert all(value.isfinite().all() for value in encoder.state_dict().values())


def test_torchvisions_spelling_of_a_name_is_accepted():
    config = Config().updated({"model.encoder": "vit_b_16", "model.encoders.audio": "convnext_tiny"}, "here")
    assert config.model.encoder == "vit-b-16" and config.model.encoders == {"audio": "convnext-tiny"}

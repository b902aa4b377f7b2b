"""Fusions against their formulas in NumPy; the network's frames, heads and evaluation pass."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from mgap_cli.config import ModelConfig
from mgap_cli.data.loading.loader import Batch
from mgap_cli.errors import ExitCode, UsageError
from mgap_cli.model.fusion import ADDITIVE, FUSIONS
from mgap_cli.model.inference import predict
from mgap_cli.model.network import HEADS, MultimodalNetwork

FEATURES, CLASSES = 8, 5


def network(fusion: str = "concat", unimodal: str = "heads", probes: bool = False) -> MultimodalNetwork:
    """A small network in eval mode, its batch statistics and biases away from their initial values."""
    torch.manual_seed(0)
    config = ModelConfig(encoder="resnet10", width=4, fusion=fusion, unimodal=unimodal)
    made = MultimodalNetwork(config, CLASSES, probes)
    randomise_biases(made)
    with torch.no_grad():
        made(*inputs(8, 2))
    return made.eval()


def randomise_biases(module: nn.Module) -> None:
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter)


def inputs(batch: int = 3, times: int = 1, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randn(batch, times, 3, 32, 32, generator=generator)
    return frames, torch.randn(batch, 1, 33, 20, generator=generator)


def reference(fusion: str, module: nn.Module, a: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The formulas of the fusions' docstrings, in float64."""
    p = {k: t.detach().numpy().astype(np.float64) for k, t in module.named_parameters()}
    if fusion == "concat":
        return np.hstack([a, v]) @ p["linear.weight"].T + p["linear.bias"]
    if fusion == "sum":
        return a @ p["audio.weight"].T + v @ p["visual.weight"].T + p["bias"]
    if fusion == "film":
        modulation = a @ p["modulation.weight"].T + p["modulation.bias"]
        gamma, beta = modulation[:, :FEATURES], modulation[:, FEATURES:]
        hidden = gamma * v + beta
    else:
        gate = 1 / (1 + np.exp(-(a @ p["gate.weight"].T + p["gate.bias"])))
        hidden = gate * (v @ p["value.weight"].T + p["value.bias"])
    return hidden @ p["linear.weight"].T + p["linear.bias"]


@pytest.mark.parametrize("fusion", list(FUSIONS))
def test_fusion_equals_its_formula(fusion):
    torch.manual_seed(0)
    module = FUSIONS[fusion](FEATURES, CLASSES)
    randomise_biases(module)
    a, v = torch.randn(2, 6, FEATURES).double().numpy()
    out = module(torch.from_numpy(a).float(), torch.from_numpy(v).float()).detach().numpy()
    np.testing.assert_allclose(out, reference(fusion, module, a, v), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fusion", ADDITIVE)
def test_parts_sum_to_the_fused_logits_and_read_one_modality_each(fusion):
    torch.manual_seed(0)
    module = FUSIONS[fusion](FEATURES, CLASSES)
    randomise_biases(module)
    a, v, other = torch.randn(3, 6, FEATURES)
    part_a, part_v = module.parts(a, v)
    torch.testing.assert_close(part_a + part_v, module(a, v))
    assert torch.equal(module.parts(a, other)[0], part_a)
    assert torch.equal(module.parts(other, v)[1], part_v)
    zero = torch.zeros(6, FEATURES)
    torch.testing.assert_close(*module.parts(zero, zero))  # half of the bias each


@pytest.mark.parametrize("fusion", list(FUSIONS))
def test_outputs(fusion):
    outputs = network(fusion)(*inputs(3, 2))
    assert {tuple(outputs.head(h).shape) for h in HEADS} == {(3, CLASSES)}
    assert (outputs.parts is not None) == (fusion in ADDITIVE)
    if outputs.parts is not None:
        torch.testing.assert_close(sum(outputs.parts), outputs.fused)


@pytest.mark.parametrize("fusion", ADDITIVE)
def test_decomposed_logits_are_the_fusions_parts(fusion):
    made = network(fusion, "decomposed")
    outputs = made(*inputs())
    assert outputs.parts == (outputs.audio, outputs.visual)
    torch.testing.assert_close(outputs.audio + outputs.visual, outputs.fused)
    assert not any("_head" in name for name, _ in made.named_parameters())


@pytest.mark.parametrize("fusion", ["film", "gated"])
def test_decomposed_logits_need_an_additive_fusion(fusion):
    with pytest.raises(UsageError, match=fusion) as caught:
        network(fusion, "decomposed")
    assert caught.value.exit_code == ExitCode.USAGE
    assert "concat" in caught.value.hint


def test_each_head_sees_its_own_modality_only():
    made = network()
    frames, audio = inputs()
    other_frames, other_audio = inputs(seed=1)
    plain, other_sound, other_sight = (
        made(frames, audio),
        made(frames, other_audio),
        made(other_frames, audio),
    )
    assert torch.equal(plain.visual, other_sound.visual)
    assert torch.equal(plain.audio, other_sight.audio)
    assert not torch.allclose(plain.audio, other_sound.audio)
    assert not torch.allclose(plain.visual, other_sight.visual)
    assert not torch.allclose(plain.fused, other_sound.fused)
    assert not torch.allclose(plain.fused, other_sight.fused)


def test_identical_frames_count_as_one():
    made = network()
    frames, audio = inputs()
    once, thrice = made(frames, audio), made(frames.repeat(1, 3, 1, 1, 1), audio)
    for head in HEADS:
        torch.testing.assert_close(once.head(head), thrice.head(head))


def test_frame_features_are_averaged():
    made = network()
    frames, audio = inputs(3, 2)
    together = made(frames, audio)
    apart = [made(frames[:, t : t + 1], audio) for t in range(2)]
    for head in HEADS:  # linear in the visual features
        torch.testing.assert_close(together.head(head), (apart[0].head(head) + apart[1].head(head)) / 2)
    assert not torch.allclose(apart[0].visual, apart[1].visual)


@pytest.mark.parametrize("probes", [True, False])
def test_probes_measure_without_training(probes):
    made = network(probes=probes)
    outputs = made(*inputs())
    (outputs.audio.sum() + outputs.visual.sum()).backward()
    assert (made.audio_encoder.conv1.weight.grad is None) == probes
    assert (made.visual_encoder.conv1.weight.grad is None) == probes
    assert made.audio_head.weight.grad is not None


def batches(sizes: list[int]) -> list[Batch]:
    made, first = [], 100
    for seed, size in enumerate(sizes):
        frames, audio = inputs(size, seed=seed)
        made.append(Batch(torch.arange(first, first + size), torch.arange(size) % CLASSES, frames, audio))
        first += size
    return made


@pytest.mark.parametrize("training", [True, False])
def test_predict_is_a_pass_in_eval_mode_that_changes_nothing(training):
    made = network().train(training)
    before = {k: v.clone() for k, v in made.state_dict().items()}
    given = batches([4, 4, 1])
    found = predict(made, given)
    assert made.training is training
    assert all(torch.equal(before[k], v) for k, v in made.state_dict().items())
    np.testing.assert_array_equal(found.index, np.arange(100, 109))
    np.testing.assert_array_equal(found.labels, torch.cat([b.labels for b in given]))
    made.eval()
    for head in HEADS:
        logits = torch.cat([made(b.frames, b.audio).head(head) for b in given]).detach().double().numpy()
        expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        assert found.probabilities[head].dtype == np.float64
        np.testing.assert_allclose(found.probabilities[head], expected, atol=1e-6)

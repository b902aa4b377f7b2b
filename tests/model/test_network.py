"""Fusions against their formulas in NumPy; the network's frames, heads and evaluation pass."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.methods import HEADS, batch_of
from torch import nn

from mgap_cli.config import ModelConfig
from mgap_cli.data.loading.loader import Batch
from mgap_cli.errors import ExitCode, UsageError
from mgap_cli.model import fusions
from mgap_cli.model.fusions import load_fusion
from mgap_cli.model.inference import predict
from mgap_cli.model.network import FUSED, MultimodalNetwork

FEATURES, CLASSES = 8, 5
PAIR = ("audio", "visual")
FUSIONS = ("concat", "cosine", "film", "gated", "sum")
ADDITIVE = tuple(fusions.additive_names())


def network(fusion: str = "concat", unimodal: str = "heads", probes: bool = False) -> MultimodalNetwork:
    """A small network in eval mode, its batch statistics and biases away from their initial values."""
    torch.manual_seed(0)
    config = ModelConfig(encoder="resnet10", width=4, fusion=fusion, unimodal=unimodal)
    made = MultimodalNetwork(config, CLASSES, probes)
    randomise_biases(made)
    with torch.no_grad():
        made(inputs(8, 2))
    return made.eval()


def randomise_biases(module: nn.Module) -> None:
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter)


def inputs(batch: int = 3, times: int = 1, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randn(batch, times, 3, 32, 32, generator=generator)
    return {"visual": frames, "audio": torch.randn(batch, 1, 33, 20, generator=generator)}


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.sqrt((rows**2).sum(axis=1, keepdims=True))


def reference(fusion: str, module: nn.Module, a: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The formulas of the fusions' docstrings, in float64."""
    p = {k: t.detach().numpy().astype(np.float64) for k, t in module.named_parameters()}
    if fusion == "concat":
        return np.hstack([a, v]) @ p["linear.weight"].T + p["linear.bias"]
    if fusion == "sum":
        return a @ p["linears.audio.weight"].T + v @ p["linears.visual.weight"].T + p["bias"]
    if fusion == "cosine":
        return 10 * sum(unit(f) @ unit(p[f"linears.{m}.weight"]).T for m, f in (("audio", a), ("visual", v)))
    if fusion == "film":
        modulation = a @ p["modulation.weight"].T + p["modulation.bias"]
        gamma, beta = modulation[:, :FEATURES], modulation[:, FEATURES:]
        hidden = gamma * v + beta
    else:
        gate = 1 / (1 + np.exp(-(a @ p["gate.weight"].T + p["gate.bias"])))
        hidden = gate * (v @ p["value.weight"].T + p["value.bias"])
    return hidden @ p["linear.weight"].T + p["linear.bias"]


@pytest.mark.parametrize("fusion", FUSIONS)
def test_fusion_equals_its_formula(fusion):
    torch.manual_seed(0)
    module = load_fusion(fusion)(dict.fromkeys(PAIR, FEATURES), CLASSES)
    randomise_biases(module)
    a, v = torch.randn(2, 6, FEATURES).double().numpy()
    features = {"audio": torch.from_numpy(a).float(), "visual": torch.from_numpy(v).float()}
    out = module(features).detach().numpy()
    np.testing.assert_allclose(out, reference(fusion, module, a, v), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fusion", ADDITIVE)
def test_contributions_sum_to_the_fused_logits_and_read_one_modality_each(fusion):
    torch.manual_seed(0)
    module = load_fusion(fusion)(dict.fromkeys(PAIR, FEATURES), CLASSES)
    randomise_biases(module)
    a, v, other = torch.randn(3, 6, FEATURES)
    parts = module.contributions({"audio": a, "visual": v})
    assert tuple(parts) == PAIR
    torch.testing.assert_close(parts["audio"] + parts["visual"], module({"audio": a, "visual": v}))
    assert torch.equal(module.contributions({"audio": a, "visual": other})["audio"], parts["audio"])
    assert torch.equal(module.contributions({"audio": other, "visual": v})["visual"], parts["visual"])
    zero = torch.zeros(6, FEATURES)
    torch.testing.assert_close(
        *module.contributions({"audio": zero, "visual": zero}).values()
    )  # half of the bias each


@pytest.mark.parametrize("fusion", ADDITIVE)
def test_an_additive_fusion_takes_three_modalities(fusion):
    torch.manual_seed(0)
    module = load_fusion(fusion)(dict.fromkeys((*PAIR, "touch"), FEATURES), CLASSES)
    randomise_biases(module)
    features = dict(zip((*PAIR, "touch"), torch.randn(3, 6, FEATURES), strict=True))
    parts = module.contributions(features)
    assert tuple(parts) == (*PAIR, "touch")
    torch.testing.assert_close(sum(parts.values()), module(features))


@pytest.mark.parametrize("fusion", ["film", "gated"])
def test_a_fusion_of_two_refuses_a_third_modality(fusion):
    with pytest.raises(UsageError, match=f"{fusion} joins two modalities.*has 3") as caught:
        load_fusion(fusion)(dict.fromkeys((*PAIR, "touch"), FEATURES), CLASSES)
    assert "concat" in caught.value.hint


@pytest.mark.parametrize("fusion", FUSIONS)
def test_outputs(fusion):
    outputs = network(fusion)(inputs(3, 2))
    assert tuple(outputs.logits) == HEADS and tuple(outputs.unimodal) == PAIR
    assert {tuple(z.shape) for z in outputs.logits.values()} == {(3, CLASSES)}
    assert {m: tuple(f.shape) for m, f in outputs.features.items()} == dict.fromkeys(PAIR, (3, 32))
    assert bool(outputs.contributions) == (fusion in ADDITIVE)
    if outputs.contributions:
        torch.testing.assert_close(sum(outputs.contributions.values()), outputs.fused)


@pytest.mark.parametrize("fusion", ADDITIVE)
def test_decomposed_logits_are_the_fusions_contributions(fusion):
    made = network(fusion, "decomposed")
    outputs = made(inputs())
    assert tuple(outputs.unimodal) == PAIR
    assert all(outputs.unimodal[m] is outputs.contributions[m] for m in PAIR)
    torch.testing.assert_close(sum(outputs.unimodal.values()), outputs.fused)
    assert not any(name.startswith("heads.") for name, _ in made.named_parameters())


@pytest.mark.parametrize("fusion", ["film", "gated"])
def test_decomposed_logits_need_an_additive_fusion(fusion):
    with pytest.raises(UsageError, match=fusion) as caught:
        network(fusion, "decomposed")
    assert caught.value.exit_code == ExitCode.USAGE
    assert "concat" in caught.value.hint


def test_each_head_sees_its_own_modality_only():
    made = network()
    given, other = inputs(), inputs(seed=1)
    plain = made(given)
    other_sound, other_sight = (made(given | {m: other[m]}) for m in PAIR)
    assert torch.equal(plain.unimodal["visual"], other_sound.unimodal["visual"])
    assert torch.equal(plain.unimodal["audio"], other_sight.unimodal["audio"])
    assert not torch.allclose(plain.unimodal["audio"], other_sound.unimodal["audio"])
    assert not torch.allclose(plain.unimodal["visual"], other_sight.unimodal["visual"])
    assert not torch.allclose(plain.fused, other_sound.fused)
    assert not torch.allclose(plain.fused, other_sight.fused)


@pytest.mark.parametrize("modality", PAIR)
def test_one_modality_can_run_alone(modality):
    made, given = network(), inputs()
    whole, alone = made(given), made({modality: given[modality]}, only=[modality])
    assert tuple(alone.logits) == tuple(alone.features) == (modality,)
    assert FUSED not in alone.logits and not alone.contributions
    assert torch.equal(alone.unimodal[modality], whole.unimodal[modality])
    assert torch.equal(alone.features[modality], whole.features[modality])


def test_identical_frames_count_as_one():
    made, given = network(), inputs()
    once, thrice = made(given), made(given | {"visual": given["visual"].repeat(1, 3, 1, 1, 1)})
    for head in HEADS:
        torch.testing.assert_close(once.logits[head], thrice.logits[head])


def test_frame_features_are_averaged():
    made, given = network(), inputs(3, 2)
    together = made(given)
    apart = [made(given | {"visual": given["visual"][:, t : t + 1]}) for t in range(2)]
    for head in HEADS:  # linear in the visual features
        mean = (apart[0].logits[head] + apart[1].logits[head]) / 2
        torch.testing.assert_close(together.logits[head], mean)
    assert not torch.allclose(apart[0].unimodal["visual"], apart[1].unimodal["visual"])


@pytest.mark.parametrize("probes", [True, False])
def test_probes_measure_without_training(probes):
    made = network(probes=probes)
    outputs = made(inputs())
    sum(z.sum() for z in outputs.unimodal.values()).backward()
    for modality in PAIR:
        assert (made.encoders[modality].conv1.weight.grad is None) == probes
        assert made.heads[modality].weight.grad is not None


def batches(sizes: list[int]) -> list[Batch]:
    made, first = [], 100
    for seed, size in enumerate(sizes):
        index, labels = torch.arange(first, first + size), torch.arange(size) % CLASSES
        made.append(batch_of(index, labels, inputs(size, seed=seed)))
        first += size
    return made


@pytest.mark.parametrize("training", [True, False])
def test_predict_is_a_pass_in_eval_mode_that_changes_nothing(training):
    made = network().train(training)
    before = {k: v.clone() for k, v in made.state_dict().items()}
    given = batches([4, 4, 1])
    predictions = predict(made, given)
    assert made.training is training
    assert all(torch.equal(before[k], v) for k, v in made.state_dict().items())
    np.testing.assert_array_equal(predictions.index, np.arange(100, 109))
    np.testing.assert_array_equal(predictions.labels, torch.cat([b.labels for b in given]))
    made.eval()
    for head in HEADS:
        logits = torch.cat([made(b.inputs).logits[head] for b in given]).detach().double().numpy()
        expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        assert predictions.probabilities[head].dtype == np.float64
        np.testing.assert_allclose(predictions.probabilities[head], expected, atol=1e-6)


def test_predict_returns_features_where_they_are_asked_for():
    made = network()
    given = batches([4, 1])
    assert predict(made, given).features == {}
    features_of = predict(made, given, features=True).features
    assert tuple(features_of) == PAIR
    for modality, features in features_of.items():
        expected = torch.cat([made(b.inputs).features[modality] for b in given]).detach().numpy()
        assert features.dtype == np.float32
        np.testing.assert_allclose(features, expected, atol=1e-6)

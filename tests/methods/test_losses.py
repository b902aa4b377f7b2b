"""Every loss compared with a float64 reference in NumPy, and the parameters that its gradients reach."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from helpers.methods import CLASSES, HEADS, ScoredEpoch, batch_of, built, configured, outputs_of

from mgap_cli.config import Config
from mgap_cli.data.loading.loader import Batch
from mgap_cli.gap.mixture import fit_mixture
from mgap_cli.gap.scores import Scores
from mgap_cli.methods.adaptive import Adaptive, _shift_kl
from mgap_cli.model.network import Outputs

SAMPLES, BATCH = 40, 12
STRONG = {
    "adaptive.alpha": 1.7,
    "adaptive.beta": 2.3,
    "adaptive.lambda_gap": 0.6,
    "adaptive.lambda_shift": 3.1,
}
VARIANTS = list(
    itertools.product(("absolute", "signed"), ("log", "probability"), ("squared", "kl"), ("leading", "none"))
)


def made(seed: int = 0) -> tuple[Outputs, Batch]:
    generator = torch.Generator().manual_seed(seed)
    logits = (2 * torch.randn(BATCH, CLASSES, generator=generator) for _ in range(3))
    outputs = outputs_of(*(z.requires_grad_() for z in logits))
    index = torch.randperm(SAMPLES, generator=generator)[:BATCH]
    labels = torch.randint(CLASSES, (BATCH,), generator=generator)
    return outputs, batch_of(index, labels)


def adaptive(config: Config, seed: int = 0) -> Adaptive:
    """An adaptive method after a fit, with any posteriors and a balanced component."""
    method = built("adaptive", config, SAMPLES)
    assert isinstance(method, Adaptive)
    method.posterior.copy_(torch.rand(SAMPLES, generator=torch.Generator().manual_seed(seed + 100)))
    method.balanced_mean.fill_(0.13)
    method.balanced_sd.fill_(0.21)
    return method


def log_softmax64(z: torch.Tensor) -> np.ndarray:
    z64 = z.detach().numpy().astype(np.float64)
    return z64 - np.log(np.exp(z64).sum(axis=1, keepdims=True))


def ce64(z: torch.Tensor, labels: torch.Tensor) -> np.ndarray:
    """(B,) cross-entropies."""
    return -log_softmax64(z)[np.arange(len(labels)), labels.numpy()]


def adaptive64(config: Config, method: Adaptive, outputs: Outputs, batch: Batch) -> float:
    """The formula of the module's docstring, term by term."""
    o, y = config.method_settings("adaptive"), batch.labels
    r = method.posterior.numpy().astype(np.float64)[batch.index.numpy()]
    mu, sd = float(method.balanced_mean), float(method.balanced_sd)
    signed = np.exp(-ce64(outputs.unimodal["audio"], y)) - np.exp(-ce64(outputs.unimodal["visual"], y))
    u = np.abs(signed)
    w = 1 + o.alpha * (1 - r)
    w *= len(w) / w.sum()
    total = np.mean(w * ce64(outputs.fused, y))
    total += ce64(outputs.unimodal["audio"], y).mean() + ce64(outputs.unimodal["visual"], y).mean()
    nats = np.abs(ce64(outputs.unimodal["audio"], y) - ce64(outputs.unimodal["visual"], y))
    total += o.lambda_gap * np.mean((1 + o.beta * r) * (nats if o.gap_scale == "log" else u))
    x = u if config.gap.kind == "absolute" else signed
    if o.shift == "squared":
        return total + o.lambda_shift * np.mean(r * (x - mu) ** 2)
    m = np.average(x, weights=r)
    s = np.sqrt(np.average((x - m) ** 2, weights=r) + config.gap.sd_floor**2)
    return total + o.lambda_shift * (np.log(sd / s) + (s**2 + (m - mu) ** 2) / (2 * sd**2) - 0.5)


@pytest.mark.parametrize(
    ("name", "heads"),
    [
        ("joint", HEADS),  # the last two reach the probes only
        ("joint-heads", HEADS),
        ("unimodal", ("audio",)),
        ("unimodal", ("visual",)),
    ],
)
def test_plain_methods_equal_the_reference(name, heads):
    outputs, batch = made()
    settings = {"unimodal.modality": heads[0]} if name == "unimodal" else {}
    method = built(name, configured(**settings), SAMPLES)
    assert method.heads == heads
    loss = method.loss(outputs, batch)
    expected = sum(ce64(outputs.logits[h], batch.labels).mean() for h in heads)
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_joint_with_decomposed_logits_is_the_fused_cross_entropy_alone():
    outputs, batch = made()
    loss = built("joint", configured(model__unimodal="decomposed"), SAMPLES).loss(outputs, batch)
    assert loss.item() == pytest.approx(ce64(outputs.fused, batch.labels).mean(), rel=1e-6)


@pytest.mark.parametrize("coefficients", [{}, STRONG], ids=["defaults", "others"])
@pytest.mark.parametrize(("gap_kind", "scale", "shift", "stop_gradient"), VARIANTS)
def test_adaptive_equals_the_reference(gap_kind, scale, shift, stop_gradient, coefficients):
    chosen = {"gap_scale": scale, "shift": shift, "stop_gradient": stop_gradient}
    config = configured(gap__kind=gap_kind, **{f"adaptive.{k}": v for k, v in chosen.items()}, **coefficients)
    for seed in range(3):
        outputs, batch = made(seed)
        method = adaptive(config, seed)
        expected = adaptive64(config, method, outputs, batch)
        assert method.loss(outputs, batch).item() == pytest.approx(expected, rel=2e-6)


@pytest.mark.parametrize("name", list(STRONG))
def test_each_coefficient_matters(name):
    outputs, batch = made()
    losses = {adaptive(configured(**{name: v})).loss(outputs, batch).item() for v in (0.0, 1.0, 2.0)}
    assert len(losses) == 3


@pytest.mark.parametrize("alpha", [0.0, 1.0, 50.0])
def test_fusion_weights_have_mean_one(alpha):
    # Fused logits of 0 cost log(C) per sample, so the mean of the weights multiplies log(C).
    outputs, batch = made()
    config = configured(adaptive__alpha=alpha, adaptive__lambda_gap=0, adaptive__lambda_shift=0)
    level = outputs_of(torch.zeros(BATCH, CLASSES), outputs.unimodal["audio"], outputs.unimodal["visual"])
    unimodal = (
        ce64(outputs.unimodal["audio"], batch.labels).mean()
        + ce64(outputs.unimodal["visual"], batch.labels).mean()
    )
    assert adaptive(config).loss(level, batch).item() - unimodal == pytest.approx(np.log(CLASSES), rel=1e-5)


def test_fusion_weights_favour_balanced_samples():
    outputs, batch = made()
    method = adaptive(configured(adaptive__alpha=1))
    method.posterior.copy_(torch.linspace(0, 1, SAMPLES))
    level = torch.zeros(BATCH, CLASSES, requires_grad=True)
    method.loss(outputs_of(level, outputs.unimodal["audio"], outputs.unimodal["visual"]), batch).backward()
    weight = level.grad.norm(dim=1)[batch.index.argsort()]  # by rising posterior
    assert (weight.diff() < 0).all()
    assert weight[0] / weight[-1] == pytest.approx(
        float((2 - method.posterior[batch.index].min()) / (2 - method.posterior[batch.index].max()))
    )


def steering(settings: dict[str, Any], seed: int) -> tuple[torch.Tensor, torch.Tensor, Outputs, Batch]:
    """The gradients (audio, visual) of the gap and shift terms alone."""
    outputs, batch = made(seed)
    gradients = []
    for strength in (1.0, 0.0):
        config = configured(**settings, adaptive__lambda_gap=strength, adaptive__lambda_shift=strength)
        loss = adaptive(config, seed).loss(outputs, batch)
        gradients.append(torch.autograd.grad(loss, (outputs.unimodal["audio"], outputs.unimodal["visual"])))
    (with_a, with_v), (without_a, without_v) = gradients
    return with_a - without_a, with_v - without_v, outputs, batch


def leads(outputs: Outputs, batch: Batch) -> torch.Tensor:
    """Whether audio has the higher score of the true class, (B,)."""
    audio_leads = ce64(outputs.unimodal["audio"], batch.labels) < ce64(
        outputs.unimodal["visual"], batch.labels
    )
    assert 0 < audio_leads.sum() < BATCH
    return torch.from_numpy(audio_leads)


@pytest.mark.parametrize("gap_kind", ["absolute", "signed"])
@pytest.mark.parametrize("scale", ["log", "probability"])
@pytest.mark.parametrize("shift", ["squared", "kl"])
def test_stop_gradient_leading_touches_only_the_weaker_modality(gap_kind, scale, shift):
    settings = {"gap__kind": gap_kind, "adaptive__gap_scale": scale, "adaptive__shift": shift}
    for seed in range(3):
        audio, visual, outputs, batch = steering(settings, seed)
        audio_leads = leads(outputs, batch)
        assert (audio[audio_leads] == 0).all()
        assert (visual[~audio_leads] == 0).all()
        assert (audio[~audio_leads].abs().amax(dim=1) > 0).all()
        assert (visual[audio_leads].abs().amax(dim=1) > 0).all()


def test_stop_gradient_none_touches_both():
    audio, visual, *_ = steering({"adaptive__stop_gradient": "none"}, 0)
    assert (audio.abs().amax(dim=1) > 0).all()
    assert (visual.abs().amax(dim=1) > 0).all()


def test_the_gap_term_lifts_the_weaker_score():
    outputs, batch = made()
    plain, steered = (
        adaptive(configured(adaptive__lambda_gap=strength, adaptive__lambda_shift=0)) for strength in (0, 1)
    )
    audio, visual = (
        b - a
        for a, b in zip(
            torch.autograd.grad(
                plain.loss(outputs, batch), (outputs.unimodal["audio"], outputs.unimodal["visual"])
            ),
            torch.autograd.grad(
                steered.loss(outputs, batch), (outputs.unimodal["audio"], outputs.unimodal["visual"])
            ),
            strict=True,
        )
    )
    weaker = torch.where(leads(outputs, batch)[:, None], visual, audio)
    true_class = weaker.gather(1, batch.labels[:, None])
    assert (true_class < 0).all()  # a step against the gradient raises it


def test_in_nats_the_gap_term_pulls_hardest_where_the_weaker_modality_is_lost():
    """With stop_gradient=leading its gradient is that of cross-entropy; in probabilities it is tiny."""
    labels = torch.tensor([0])
    lost = torch.tensor([[-12.0, 0, 0, 0, 0]])
    sure = torch.tensor([[12.0, 0, 0, 0, 0]])
    grads = {}
    for scale in ("log", "probability"):
        audio, visual = sure.clone().requires_grad_(), lost.clone().requires_grad_()
        weights = {"adaptive__lambda_gap": 1, "adaptive__beta": 0, "adaptive__lambda_shift": 0}
        config = configured(adaptive__gap_scale=scale, **weights)
        outputs = outputs_of(torch.zeros(1, CLASSES), audio, visual)
        adaptive(config).loss(outputs, batch_of(torch.tensor([0]), labels)).backward()
        plain = lost.clone().requires_grad_()
        torch.nn.functional.cross_entropy(plain, labels).backward()
        grads[scale] = (visual.grad - plain.grad, plain.grad)  # the gradient of the gap term
    torch.testing.assert_close(*grads["log"])
    assert grads["probability"][0].abs().max() < 1e-5


@pytest.mark.parametrize("shift", ["squared", "kl"])
@pytest.mark.parametrize("posterior", [0.0, 1.0])
def test_extreme_posteriors_give_finite_losses_and_gradients(shift, posterior):
    outputs, batch = made()
    method = adaptive(configured(adaptive__shift=shift))
    method.posterior.fill_(posterior)
    loss = method.loss(outputs, batch)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(outputs.logits[h].grad).all() for h in HEADS)
    if posterior == 0:  # no imbalanced sample: nothing to shift
        without = adaptive(configured(adaptive__shift=shift, adaptive__lambda_shift=0))
        without.posterior.fill_(0)
        assert loss.item() == pytest.approx(without.loss(outputs, batch).item())


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-9, 1e-30])
def test_the_kl_shift_depends_on_the_ratios_of_the_posteriors_alone(scale):
    """The term compares two Gaussians: small posteriors alone do not change it."""
    value, ratios = torch.tensor([0.1, 0.2, 0.6, 0.7]), torch.tensor([0.1, 0.4, 1.0, 0.5])
    mean, sd = torch.tensor(0.13), torch.tensor(0.21)
    expected = _shift_kl(value, ratios, mean, sd, 0.01)
    assert _shift_kl(value, scale * ratios, mean, sd, 0.01).item() == pytest.approx(expected.item(), rel=1e-4)


def test_equal_scores_give_finite_gradients():
    outputs, batch = made()
    same = outputs.unimodal["audio"].detach().clone().requires_grad_()
    adaptive(Config()).loss(outputs_of(outputs.fused, outputs.unimodal["audio"], same), batch).backward()
    assert torch.isfinite(outputs.unimodal["audio"].grad).all()
    assert torch.isfinite(same.grad).all()


def test_bfloat16_logits_are_scored_in_float32():
    outputs, batch = made()
    half = outputs_of(*(outputs.logits[h].detach().bfloat16() for h in HEADS))
    exact = outputs_of(*(half.logits[h].float() for h in HEADS))
    for name in ("joint-heads", "adaptive"):
        method = built(name, configured(), SAMPLES)
        assert method.loss(half, batch).item() == method.loss(exact, batch).item()


def scored(index: np.ndarray) -> ScoredEpoch:
    """The first epoch of a stage whose scores have two clear groups."""
    generator = np.random.default_rng(0)
    gap = np.where(np.arange(len(index)) % 2, generator.normal(0.7, 0.05, len(index)), 0.05)
    gap = np.clip(gap + generator.normal(0, 0.01, len(index)), 0, 1)
    ids, labels = [str(i) for i in index], np.zeros(len(index), dtype=np.int64)
    return ScoredEpoch(Scores(ids, ("only",), labels, {"audio": gap, "visual": np.zeros(len(index))}), index)


def test_a_refit_gives_each_sample_its_posterior():
    context = scored(np.arange(SAMPLES)[::-2].copy())  # half of the store, in another order
    method = built("adaptive", configured(), SAMPLES)
    lines = method.on_epoch_start(context)
    mixture, _ = fit_mixture(context.given.gap, Config().gap)
    posterior = method.posterior.numpy()
    np.testing.assert_allclose(posterior[context.index], mixture.posterior(context.given.gap), atol=1e-6)
    np.testing.assert_array_equal(np.delete(posterior, context.index), 0.0)
    assert float(method.balanced_mean) == pytest.approx(mixture.means[0])
    assert float(method.balanced_sd) == pytest.approx(mixture.sds[0])
    assert "balanced" in lines[0]


def test_refit_every():
    context = scored(np.arange(SAMPLES))
    method = built("adaptive", configured(adaptive__refit_every=3), SAMPLES)
    calls = []
    for epoch in range(7):
        context.epoch = epoch
        lines = method.on_epoch_start(context)
        calls.append(context.calls)
        assert bool(lines) == (epoch in (0, 3, 6))
    assert calls == [1, 1, 1, 2, 2, 2, 3]


@pytest.mark.parametrize("source", ["pass", "online"])
def test_scores_come_from_a_pass_or_from_training(source):
    context = scored(np.arange(SAMPLES))
    method = built("adaptive", configured(adaptive__scores=source), SAMPLES)
    method.on_epoch_start(context)
    assert context.calls == 1  # nothing has been trained yet
    before = method.posterior.clone()
    outputs, batch = made()
    method.loss(outputs, batch)
    context.epoch = 1
    method.on_epoch_start(context)
    assert context.calls == (1 if source == "online" else 2)
    if source == "pass":
        return
    gap = np.exp(-ce64(outputs.unimodal["audio"], batch.labels)) - np.exp(
        -ce64(outputs.unimodal["visual"], batch.labels)
    )
    np.testing.assert_allclose(method.online_gap[batch.index].numpy(), gap, atol=1e-6)
    mixture, _ = fit_mixture(method.online_gap[batch.index].double().numpy(), Config().gap)
    expected = before.numpy().copy()
    expected[batch.index.numpy()] = mixture.posterior(gap)
    np.testing.assert_allclose(method.posterior.numpy(), expected, atol=0.02)


def test_what_adaptive_remembers_travels_in_its_state():
    outputs, batch = made()
    method = built("adaptive", configured(), SAMPLES)
    method.on_epoch_start(scored(np.arange(SAMPLES)))
    loss = method.loss(outputs, batch)
    state = method.state_dict()
    assert set(state) == {"posterior", "online_gap", "balanced_mean", "balanced_sd", "components", "fitted"}
    restored = built("adaptive", configured(), SAMPLES)
    assert restored.loss(outputs, batch) != loss
    restored.load_state_dict(state)
    assert restored.loss(outputs, batch) == loss
    assert torch.equal(restored.online_gap.isnan(), method.online_gap.isnan())

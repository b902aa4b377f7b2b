"""Scores from a user's own loop: tensors of every type, batches, and the examples of the page."""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import re
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers.pages import PAGES
from scipy.special import softmax

import mgap_cli.gap
from mgap_cli.errors import MgapError
from mgap_cli.gap import GapMeter, measure

torch = pytest.importorskip("torch")

N, C = 64, 3
GENERATOR = np.random.default_rng(3)
LABELS = GENERATOR.integers(0, C, N)
LOGITS = {name: GENERATOR.normal(size=(N, C)) * 2 for name in ("audio", "visual", "fused")}
ALL = {name: softmax(z, axis=1) for name, z in LOGITS.items()}
P = {name: p[np.arange(N), LABELS] for name, p in ALL.items()}
MODALITIES = ("audio", "visual")


def of(scores: dict[str, np.ndarray], rows: slice = slice(None), names=MODALITIES) -> dict[str, np.ndarray]:
    return {name: scores[name][rows] for name in names}


def tensors(dtype: Any, **more: Any) -> dict[str, Any]:
    return {name: torch.tensor(LOGITS[name], dtype=dtype, **more) for name in MODALITIES}


BATCHES = [slice(0, 20), slice(20, 21), slice(21, N)]


@pytest.mark.parametrize(
    ("name", "atol"), [("float64", 1e-12), ("float32", 1e-6), ("float16", 2e-3), ("bfloat16", 2e-2)]
)
def test_tensors_of_every_float_type_with_gradients(name, atol):
    given = tensors(getattr(torch, name), requires_grad=True)
    fit = measure(torch.tensor(LABELS), form="logits", **given)
    np.testing.assert_allclose(fit.scores.gap, P["audio"] - P["visual"], atol=atol)
    assert all(tensor.grad is None and tensor.requires_grad for tensor in given.values())
    # Rows of half-precision probabilities do not sum to 1 exactly.
    rounded = {key: tensor.softmax(1) for key, tensor in given.items()}
    same = measure(torch.tensor(LABELS, dtype=torch.float32), **rounded)
    np.testing.assert_allclose(same.scores.gap, fit.scores.gap, atol=atol)


def test_rows_of_many_classes_in_bfloat16_are_probabilities():
    p = {m: torch.tensor(GENERATOR.normal(size=(200, 1000)) * 3).softmax(1).bfloat16() for m in MODALITIES}
    fit = measure(torch.zeros(200, dtype=torch.int32), **p)
    np.testing.assert_allclose(fit.scores.p["audio"], p["audio"][:, 0].double().numpy())


def test_tensors_of_another_device():
    class Elsewhere:
        """A tensor that numpy can read only after it was detached and copied to the host."""

        def __init__(self, tensor: torch.Tensor, steps: tuple[str, ...] = ()) -> None:
            self.tensor, self.steps = tensor, steps

        def detach(self) -> Elsewhere:
            return Elsewhere(self.tensor, (*self.steps, "detach"))

        def cpu(self) -> torch.Tensor:
            assert self.steps == ("detach",)
            return self.tensor

        def __array__(self, *_: object, **__: object) -> np.ndarray:
            raise TypeError("can't convert cuda:0 device type tensor to numpy")

    there = {name: Elsewhere(tensor) for name, tensor in tensors(torch.bfloat16).items()}
    here = measure(LABELS, form="logits", **tensors(torch.bfloat16))
    fit = measure(Elsewhere(torch.tensor(LABELS)), form="logits", **there)
    np.testing.assert_array_equal(fit.scores.gap, here.scores.gap)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_tensors_on_a_gpu():
    given = tensors(torch.bfloat16, device="cuda")
    fit = measure(torch.tensor(LABELS, device="cuda"), form="logits", **given)
    here = measure(LABELS, form="logits", **tensors(torch.bfloat16))
    np.testing.assert_array_equal(fit.scores.gap, here.scores.gap)


@pytest.mark.parametrize("form", ["p of the true class", "p", "logits"])
def test_batches_give_what_all_samples_give(form):
    scores = {"p of the true class": P, "p": ALL, "logits": LOGITS}[form]
    word = "logits" if form == "logits" else "p"
    whole = measure(LABELS, form=word, **of(scores, names=(*MODALITIES, "fused")))
    meter = GapMeter(form=word)
    for turn in range(2):  # reset forgets
        for rows in BATCHES:
            names = ("fused", "visual", "audio") if rows.start == 20 else ("audio", "visual", "fused")
            meter.update(torch.tensor(LABELS[rows]), **of(scores, rows, names))
        assert len(meter) == N
        fit = meter.compute()
        np.testing.assert_array_equal(fit.posterior, whole.posterior)
        assert fit.scores.modalities == whole.scores.modalities and fit.scores.ids == whole.scores.ids
        assert fit.scores.classes == whole.scores.classes and fit.warnings == whole.warnings
        np.testing.assert_array_equal(fit.scores.labels, whole.scores.labels)
        np.testing.assert_array_equal(fit.scores.p_fused, whole.scores.p_fused)
        assert fit.scores.predicted.keys() == whole.scores.predicted.keys()
        for head, predicted in whole.scores.predicted.items():
            np.testing.assert_array_equal(fit.scores.predicted[head], predicted)
        for head, certainty in whole.scores.certainty.items():
            np.testing.assert_array_equal(fit.scores.certainty[head], certainty)
        meter.reset()
        assert len(meter) == 0, turn


def test_ids_names_and_three_modalities():
    names = np.array(["up", "down", "left"])
    meter = GapMeter(form="logits", classes=names)
    for rows in BATCHES:
        ids = [f"clip {i}" for i in range(N)[rows]]
        three = {"lidar": LOGITS["audio"], "camera": LOGITS["visual"], "text": LOGITS["fused"]}
        meter.update(names[LABELS[rows]], ids=ids, **of(three, rows, tuple(three)))
    fit = meter.compute()
    assert fit.scores.ids[-1] == f"clip {N - 1}" and fit.scores.classes == tuple(names)
    assert fit.scores.modalities == ("lidar", "camera", "text")
    np.testing.assert_array_equal(fit.scores.labels, LABELS)


def batches(*calls: tuple[Any, dict[str, Any]], **more: Any) -> GapMeter:
    meter = GapMeter(**more)
    for labels, scores in calls:
        meter.update(labels, **scores)
    return meter


HALF = slice(0, 32)
FIFTHS = {name: np.full((4, 5), 0.2) for name in MODALITIES}
GOOD = (LABELS[HALF], of(P, HALF))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: GapMeter().compute(), "GapMeter has no samples"),
        (lambda: batches(([], {"a": [], "b": []})), "Batch 1: There are no samples"),
        (lambda: batches(GOOD, (LABELS[:9], of(P, HALF))), r"Batch 2: .* shape \(32,\); there are 9 labels"),
        (lambda: batches((LABELS.reshape(8, 8), of(P))), r"Batch 1: The labels have shape \(8, 8\)"),
        (lambda: batches(GOOD, form="logits"), r"logits of audio have shape \(32,\)"),
        (lambda: batches(GOOD, (LABELS, of(P, names=("audio", "fused")))), "found audio"),
        (lambda: batches(GOOD, (LABELS, {"audio": P["audio"], "text": P["audio"]})),
         "Batch 2 has modalities: audio, text; those before it: audio, visual"),
        (lambda: batches(GOOD, (LABELS, of(ALL))), "Batch 2 has heads .* audio, visual; those .*: none"),
        (lambda: batches(GOOD, (LABELS, of(P, names=("audio", "visual", "fused")))), "fused scores: given"),
        (lambda: batches(GOOD, (LABELS, {**of(P), "ids": range(N)})), "Batch 2 has ids: given"),
        (lambda: batches((LABELS, of(ALL)), (np.zeros(4, int), {m: np.full((4, 5), 0.2) for m in "ab"})),
         "modalities: a, b"),
        (lambda: batches((LABELS, of(ALL)), (np.zeros(4, int), of(FIFTHS))),
         "Batch 2 has 5 classes; those before it: 3"),
        (lambda: batches(*[(LABELS, {**of(P), "ids": range(N)})] * 2).compute(), "of 128 samples repeat an"),
        (lambda: GapMeter(form="odds"), "form='odds'"),
        (lambda: measure(LABELS, form="odds", **of(P)), "form='odds'"),
        (lambda: measure(LABELS, **of(LOGITS)), "outside"),
        (lambda: measure(LABELS, form="logits", **of(P)), "expected those of all classes"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_two_lines(call, words):
    with pytest.raises(MgapError, match=words) as caught:
        call()
    assert caught.value.hint and "\n" not in caught.value.message + caught.value.hint
    if sys.version_info >= (3, 11):  # an uncaught exception is printed with its notes
        assert caught.value.__notes__ == [caught.value.hint]


def test_a_refused_batch_adds_nothing():
    meter = batches(GOOD)
    with pytest.raises(MgapError):
        meter.update(LABELS[:3], audio=[0.1, 0.2, 2], visual=[0.1, 0.2, 0.3])
    meter.update(LABELS[32:], **of(P, slice(32, None)))
    np.testing.assert_array_equal(meter.compute().posterior, measure(LABELS, **of(P)).posterior)


def test_public_names_load_no_torch():
    program = (
        "import sys, mgap_cli.gap as gap; [getattr(gap, name) for name in gap.__all__];"
        "gap.measure([0, 1] * 8, a=[0.1, 0.9] * 8, b=[0.3, 0.2] * 8); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    assert sorted(mgap_cli.gap.__all__) == sorted(mgap_cli.gap._HOMES)


def example(word: str) -> str:
    """Return the code block of the page that contains a word."""
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGES["analysis"], re.MULTILINE | re.DOTALL)
    (block,) = [block for block in blocks if word in block]
    return block


class Fixed(torch.nn.Module):
    """A model whose logits are its inputs."""

    def forward(self, audio: Any, visual: Any) -> tuple[Any, Any, Any]:
        return audio, visual, audio + visual


def loader() -> list[tuple[Any, Any, Any]]:
    inputs = tensors(torch.float32)
    return [(inputs["audio"][r], inputs["visual"][r], torch.tensor(LABELS[r])) for r in BATCHES]


EXPECTED = measure(LABELS, form="logits", **of({k: v.astype(np.float32) for k, v in LOGITS.items()}))


def test_the_plain_loop_of_the_page_runs():
    code = example("torch.no_grad")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {"torch": torch, "model": Fixed(), "loader": loader()})
    assert printed.getvalue() == f"{EXPECTED.balanced_share:.1%} of {N} samples are balanced\n"


def test_the_lightning_module_of_the_page():
    """If Lightning is not installed, the test calls the hooks as Lightning does."""
    code = example("MeasuredClassifier")
    logged: dict[str, float] = {}
    try:
        import lightning
    except ImportError:
        names = {"Classifier": Fixed}
        exec(code, names)
        module = names["MeasuredClassifier"]()
        module.log = logged.__setitem__
        module.on_validation_epoch_start()
        for index, batch in enumerate(loader()):
            module.validation_step(batch, index)
        module.on_validation_epoch_end()
    else:

        class Classifier(lightning.LightningModule):
            def forward(self, audio: Any, visual: Any) -> tuple[Any, Any, Any]:
                return audio, visual, audio + visual

        names = {"Classifier": Classifier}
        exec(code, names)
        quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
        samples = torch.utils.data.DataLoader(loader(), batch_size=None)
        trainer = lightning.Trainer(accelerator="cpu", devices=1, **quiet)
        logged |= trainer.validate(names["MeasuredClassifier"](), samples, verbose=False)[0]
    assert logged == {"balanced_share": pytest.approx(EXPECTED.balanced_share)}


def test_the_trainer_of_hugging_face_of_the_page(tmp_path):
    code = example("transformers")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("accelerate", reason="accelerate is not installed")

    class Model(torch.nn.Module):
        def forward(self, audio: Any, visual: Any, labels: Any) -> dict[str, Any]:
            loss = torch.nn.functional.cross_entropy(audio, labels)
            return {"loss": loss, "logits": audio, "audio_logits": audio, "visual_logits": visual}

    inputs = tensors(torch.float32)
    samples = [{**{m: inputs[m][i] for m in MODALITIES}, "labels": int(LABELS[i])} for i in range(N)]
    arguments = transformers.TrainingArguments(tmp_path, report_to="none", disable_tqdm=True, use_cpu=True)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {"model": Model(), "arguments": arguments, "samples": samples})
    assert str(EXPECTED.balanced_share) in printed.getvalue()


def test_the_metrics_for_hugging_face_without_it():
    """The function of the page accepts the output of the Trainer: predictions and label_ids."""
    body = ast.parse(example("transformers")).body
    (function,) = [node for node in body if isinstance(node, ast.FunctionDef)]
    names: dict[str, Any] = {"measure": measure}
    exec(ast.unparse(function), names)
    output = SimpleNamespace(
        predictions=(LOGITS["fused"], LOGITS["audio"], LOGITS["visual"]), label_ids=LABELS
    )
    assert names["gap_metrics"](output) == {"balanced_share": pytest.approx(EXPECTED.balanced_share)}
    assert list(inspect.signature(names["gap_metrics"]).parameters) == ["output"]

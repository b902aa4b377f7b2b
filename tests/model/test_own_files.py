"""A user's own encoder and fusion train from their file, and the checkpoint requires that file."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch
from helpers.program import TINY, here, mgap, sets

import mgap_cli
from mgap_cli.config import Config
from mgap_cli.errors import UsageError
from mgap_cli.model.network import MultimodalNetwork
from mgap_cli.model.own_files import network_plugins
from mgap_cli.plugins import find_plugin

SOURCE = """
import torch
from torch import nn

from mgap_cli.model.encoders.base import Encoder
from mgap_cli.model.fusions.base import Fusion


class Mean(Encoder):
    kinds = ("spectrogram",)

    def __init__(self, modality, config):
        super().__init__(modality, config)
        self.features = 6
        self.layer = nn.Linear(1, 6)

    def forward(self, inputs):
        return torch.relu(self.layer(inputs.mean(dim=(2, 3))))


class Product(Fusion):
    def __init__(self, sizes, classes):
        super().__init__(sizes, classes)
        self.layers = nn.ModuleDict({name: nn.Linear(size, classes) for name, size in sizes.items()})

    def forward(self, features):
        parts = [layer(features[name]) for name, layer in self.layers.items()]
        return torch.stack(parts).prod(dim=0)
"""


@pytest.fixture
def user_file(tmp_path) -> Path:
    path = tmp_path / "own.py"
    path.write_text(SOURCE)
    return path


def settings(user_file: Path) -> Config:
    changes = {
        "model.encoders.audio": f"{user_file}:Mean",
        "model.fusion": f"{user_file}:Product",
        "model.encoder": "resnet10",
        "model.width": 4,
    }
    return Config().updated(changes, "test")


def test_a_network_with_the_users_own_parts(user_file):
    network = MultimodalNetwork(settings(user_file).model, 3)
    given = {"audio": torch.randn(2, 1, 9, 8), "visual": torch.randn(2, 1, 3, 32, 32)}
    outputs = network.eval()(given)
    assert outputs.fused.shape == (2, 3)
    assert {m: f.shape[1] for m, f in outputs.features.items()} == {"audio": 6, "visual": 32}
    assert outputs.contributions == {}
    assert network_plugins(settings(user_file).model) == {
        "encoders.audio": find_plugin(f"{user_file}:Mean"),
        "fusion": find_plugin(f"{user_file}:Product"),
    }


def test_a_relative_path_is_recorded_as_an_absolute_one(user_file, monkeypatch):
    monkeypatch.chdir(user_file.parent)
    given = Config().updated({"model.fusion": "own.py:Product"}, "test")
    assert given.model.fusion == f"{user_file.resolve()}:Product"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("{user_file}:Absent", "no class Absent that is a fusion"),
        ("{user_file}:Mean", "no class Mean that is a fusion"),
        ("{user_file}.none.py:Product", "no such file"),
    ],
)
def test_a_class_that_is_not_there_is_a_usage_error(user_file, spec, words):
    model = Config().updated({"model.fusion": spec.format(user_file=user_file)}, "test").model
    with pytest.raises(UsageError, match=words):
        MultimodalNetwork(model, 3)


def test_own_parts_train_and_a_changed_file_is_refused(user_file, store, tmp_path):
    chosen = sets(*TINY, f"model.encoders.audio={user_file}:Mean", "train.epochs=1")
    line = ["train", store, "--method", "joint-heads", "--fusion", f"{user_file}:Product"]
    done = mgap(*line, "-o", tmp_path / "run", *chosen)
    assert done.code == 0, done.err
    checkpoint = tmp_path / "run" / "train.pt"
    recorded = torch.load(checkpoint, weights_only=True)["plugins"]
    assert {role: p["name"] for role, p in recorded.items()} == {
        "encoders.audio": "Mean", "fusion": "Product",
    }  # fmt: skip
    user_file.write_text(SOURCE + "\n")
    mgap("evaluate", checkpoint).fails(3, "another version of", "own.py")


def test_the_documentations_example_runs_as_printed(store, tmp_path, monkeypatch):
    page = (Path(mgap_cli.__file__).parent / "docs" / "extending.md").read_text(encoding="utf-8")
    for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        for name in ("Product", "Loudness"):
            if f"class {name}(" in code:
                (tmp_path / f"{name.lower()}.py").write_text(code)
    line = next(b for b in re.findall(r"```bash\n(.*?)```", page, re.DOTALL) if "product.py" in b)
    words = ["train", store, *shlex.split(line.replace("\\\n", " "))[3:], *sets(*TINY, "train.epochs=1")]
    monkeypatch.chdir(tmp_path)
    done = here(*words)
    assert done.code == 0, done.err
    assert (tmp_path / "runs" / "own-0" / "train.pt").is_file()

"""Show that a change of structure did not change the training: the weights are equal bit for bit.

    python tests/equivalence/same_weights.py REVISION [--methods joint-heads,adaptive] [--fusions concat]

Checks REVISION out beside this tree, trains these methods (default: all that it knows) for a few epochs on a
tiny store with both programs on this machine, and compares the network's tensors in their order: names may
differ. The figures of metrics.jsonl are compared too, under their present names. Exits with 1 if anything
differs.

`OPTION` is what REVISION calls `--method`. Revisions from before `unimodal` took its modality as a setting
had one method per modality.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = [
    *("data.frames=1", "data.frame_size=16", "data.sample_rate=4000", "data.seconds=0.3", "data.n_fft=64"),
    "data.hop=40",
]
TRAINING = [
    *("model.width=4", "augment.image_size=16", "train.batch_size=64", "train.lr=0.003", "train.epochs=4"),
    *("warmup.epochs=2", "runtime.device=cpu"),
]
METHODS = ("joint", "joint-heads", "unimodal-audio", "unimodal-visual", "ogm", "ogm-ge", "adaptive")
FUSIONS = ("concat", "sum")  # the additive ones, which every method can train


def mgap(tree: Path, *words: str) -> str:
    """Run the `mgap` of a tree, and return what it printed."""
    env = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-m", "mgap_cli", *words, "--quiet"]
    done = subprocess.run(line, env=env, cwd=tree, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{tree}: {' '.join(words)}\n{done.stderr}")
    return done.stdout.strip()


def sets(words: list[str]) -> list[str]:
    """Return `--set` options."""
    return [part for word in words for part in ("--set", word)]


def trained(tree: Path, store: str, folder: Path, method: str, fusion: str) -> Path:
    """Train one method with the program of a tree; return its last checkpoint."""
    option = "--method" if (tree / "mgap_cli" / "methods").is_dir() else "--objective"
    run = str(folder / f"{method}-{fusion}")
    common = ["-o", run, *sets([*TRAINING, f"model.fusion={fusion}"])]
    if method == "adaptive":
        warm = mgap(tree, "warmup", store, *common)
        return Path(mgap(tree, "adapt", warm))
    name, more = method, []
    if option == "--method" and method.startswith("unimodal-"):
        name, more = "unimodal", sets([f"unimodal.modality={method.removeprefix('unimodal-')}"])
    return Path(mgap(tree, "warmup", store, *common, option, name, *more, "--epochs", "4"))


def weights(checkpoint: Path) -> list[bytes]:
    """Return the bytes of every tensor of the network, in order."""
    model = torch.load(checkpoint, weights_only=True)["model"]
    network = [tensor for name, tensor in model.items() if name.startswith("network.")]
    return [tensor.numpy().tobytes() for tensor in network]


def figures(checkpoint: Path) -> list[Any]:
    """Return the epochs of metrics.jsonl without what depends on the clock."""
    lines = (checkpoint.parent / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    epochs = [json.loads(line) for line in lines]
    return [{k: e.get(k) for k in ("epoch", "lr", "train", "val", "mixture")} for e in epochs]


def parsed_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("revision", metavar="REVISION", help="a commit before the change")
    for name, every in (("--methods", METHODS), ("--fusions", FUSIONS)):
        default = ",".join(every)
        parser.add_argument(name, type=names, default=default, help=f"with commas; default: {default}")
    return parser.parse_args()


def names(text: str) -> list[str]:
    return text.split(",")


def main() -> None:
    options = parsed_options()
    with tempfile.TemporaryDirectory() as scratch:
        before, folder = Path(scratch, "before"), Path(scratch)
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "-q", "--detach", str(before), options.revision], check=True)
        try:
            stores = {
                tree: mgap(tree, "prepare", "digits", "-o", str(folder / name / "store"), *sets(SETTINGS))
                for tree, name in ((before, "old"), (ROOT, "new"))
            }
            differ = []
            for method in options.methods:
                for fusion in options.fusions:
                    old, new = (
                        trained(tree, stores[tree], folder / name, method, fusion)
                        for tree, name in ((before, "old"), (ROOT, "new"))
                    )
                    same = weights(old) == weights(new), figures(old) == figures(new)
                    print(f"{method:16} {fusion:7} weights {'equal' if same[0] else 'DIFFER'}, "
                          f"figures {'equal' if same[1] else 'DIFFER'}", flush=True)  # fmt: skip
                    differ += [] if all(same) else [method]
        finally:
            subprocess.run([*git, "remove", "--force", str(before)], check=True)
    sys.exit(1 if differ else 0)


if __name__ == "__main__":
    main()

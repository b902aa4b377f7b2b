"""The options that users write into scripts: a change here breaks scripts and must be intended."""

from __future__ import annotations

import pytest
import typer
from helpers.program import mgap

from mgap_cli.app import app
from mgap_cli.config import Config, preset

TRAINING = (
    "--batch-size --lr --optimizer --schedule --clip-norm --select --seed --device --precision --threads "
    "--sync-bn --tf32 --no-tf32 --deterministic --compile --report-to --config --set --force --json --quiet"
)
SOURCE = "--label --split --segment --keep-leaks --strict --allow-skips --workers"
PUBLIC = {
    "prepare": f"{SOURCE} --output --seed --config --set --force --json --quiet --modalities --preset "
    "--variant",
    "inspect": "--plot --verify --output --json --quiet",
    "train": f"{TRAINING} --method --epochs --encoder --fusion --output --dry-run",
    "warmup": f"{TRAINING} --method --epochs --encoder --fusion --output --dry-run",
    "analyze-gap": (
        "--output --history --split --modalities --top --plot --csv --store --by --where --export "
        "--exported --human --relabel --truth --gap-kind --components --measures --unimodal --device "
        "--config --set --json --quiet --held-out --gap-scores"
    ),
    "adapt": (
        f"{TRAINING} --method --epochs --output --dry-run --store --only --threshold --alpha --beta "
        "--lambda-gap --lambda-shift --gap-scale --stop-gradient --shift --scores --refit-every --gap-kind "
        "--components --gap-scores"
    ),
    "evaluate": (
        "--output --split --rule --by --robustness --plot --store --device --config --set --json --quiet"
    ),
    "export": "--split --rule --store --output --device --config --set --json --quiet",
    "report": "--output --store --json --quiet",
    "run": (
        f"{TRAINING} {SOURCE} --epochs --encoder --fusion --output --dry-run --baseline --no-baseline "
        "--preset"
    ),
    "compare": (
        f"{TRAINING.replace(' --seed ', ' ').replace(' --force', '')} --epochs --encoder --fusion --methods "
        "--plan --seeds --reference --metric --rule --table --status --jobs --per-gpu --retry-failed "
        "--output --dry-run --slurm --parallel --time-limit --tune --partition --account --sbatch"
    ),
    "list": "--json",
    "docs": "--json",
    "doctor": "--json",
}


def commands() -> dict[str, typer.core.TyperCommand]:
    group = typer.main.get_command(app)
    return dict(group.commands)  # type: ignore[attr-defined]


def test_the_commands_are_these():
    assert set(commands()) == set(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_the_public_options_of_a_command(name):
    options = [p for p in commands()[name].params if p.param_type_name == "option"]
    words = {word for option in options for word in (*option.opts, *option.secondary_opts)}
    assert {word for word in words if word.startswith("--")} - {"--help"} == set(PUBLIC[name].split())


@pytest.mark.parametrize("name", [name for name, words in PUBLIC.items() if "--output" in words])
def test_o_is_output_everywhere(name):
    output = next(p for p in commands()[name].params if p.name == "output")
    assert set(output.opts) == {"-o", "--output"}


def test_help_shows_the_defaults_and_those_of_the_presets():
    help_text = mgap("warmup", "--help", env={"COLUMNS": "160"}).out
    assert f"{Config().warmup.epochs}; digits: {preset('digits').warmup.epochs}" in help_text
    assert f"{Config().train.lr}; digits: {preset('digits').train.lr}" in help_text


@pytest.mark.parametrize("name", PUBLIC)
def test_no_choice_is_broken_over_two_lines_of_80_columns(name):
    for line in mgap(name, "--help", env={"COLUMNS": "80"}).out.splitlines():
        assert "<" not in line or ">" in line.partition("<")[2], line


def test_run_takes_the_options_of_training_and_a_dry_run_changes_nothing(store, tmp_path):
    line = ["run", store, "-o", tmp_path / "run", "--lr", "0.5", "--fusion", "film", "--dry-run", "--json"]
    document = mgap(*line).json()
    assert [(stage["stage"], stage["method"]) for stage in document["stages"]] == [
        ("warmup", "joint-heads"),
        ("adapt", "adaptive"),
        ("baseline", "joint-heads"),
    ]
    warm, adapt, fair = (stage["epochs"] for stage in document["stages"])
    assert warm + adapt == fair == preset("digits").train.epochs
    assert len(mgap(*line, "--no-baseline").json()["stages"]) == 2
    assert (
        f"# baseline: joint-heads, {fair} epochs, in {tmp_path / 'run' / 'baseline'}\n"
        in mgap(*line[:-1]).out
    )
    settings = document["config"]
    assert settings["train"]["lr"] == 0.5 and settings["model"]["fusion"] == "film"
    assert not (tmp_path / "run").exists()


def test_the_epochs_of_run_are_the_whole_budget(store, tmp_path):
    line = ["run", store, "-o", tmp_path / "run", "--epochs", 9, "--set", "warmup.epochs=4"]
    stages = mgap(*line, "--dry-run", "--json").json()["stages"]
    assert [stage["epochs"] for stage in stages] == [4, 5, 9]
    mgap(*line[:-1], "warmup.epochs=9").fails(2, "leaves none after the warm-up of 9", "warmup.epochs=3")
    mgap("train", store, "--method", "adaptive", *line[2:-1], "warmup.epochs=9").fails(2, "leaves none")
    assert not (tmp_path / "run").exists()

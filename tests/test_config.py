"""The sources of a setting's value, and the values that are refused."""

from __future__ import annotations

import dataclasses
import math
import os
from pathlib import Path

import pytest
import yaml
from helpers.program import STEERING, call, sets
from hypothesis import given, settings
from hypothesis import strategies as st

from mgap_cli.config import (
    LARGEST_FILE,
    Config,
    differing_keys,
    from_dict,
    preset,
    presets,
    read_yaml,
    resolve,
)
from mgap_cli.errors import ExitCode, UsageError
from mgap_cli.methods import names
from mgap_cli.output import printable


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "mine.yaml"


def test_the_precedence_of_sources_lowest_first(file):
    file.write_text("train: {lr: 0.3}")
    layers = {
        "file": file,
        "environment": {"MGAP_TRAIN__LR": "0.4"},
        "sets": ["train.lr=0.5"],
        "flags": {"train.lr": 0.6},
    }
    assert preset("digits").train.lr != Config().train.lr  # a preset beats the defaults
    base = Config().updated({"train.lr": 0.2}, "preset")
    given_so_far: dict = {"environment": {}}
    rates = [resolve(base, **given_so_far).train.lr]
    for name, value in layers.items():
        given_so_far[name] = value
        rates.append(resolve(base, **given_so_far).train.lr)
    assert rates == [0.2, 0.3, 0.4, 0.5, 0.6]


def test_each_layer_changes_only_what_it_names(file):
    file.write_text("train: {batch_size: 7}\nmodel: {fusion: sum}")
    config = resolve(
        preset("digits"),
        file=file,
        environment={"MGAP_GAP__KIND": "signed", "MGAP_DEBUG": "1", "HOME": "/"},
        sets=["adaptive.alpha=3", "adaptive.alpha=2"],  # the last word counts
        flags={"train.seed": 5, "train.lr": None},
    )
    assert differing_keys(preset("digits"), config, config.to_dict()) == {
        "train.batch_size": (32, 7),
        "train.seed": (0, 5),
        "model.fusion": ("concat", "sum"),
        "gap.kind": ("absolute", "signed"),
        "adaptive.alpha": (0.0, 2.0),
    }


def test_the_real_environment_is_read(monkeypatch):
    monkeypatch.setenv("MGAP_RUNTIME__EVAL_BATCH_SIZE", "9")
    assert resolve(Config()).runtime.eval_batch_size == 9


@pytest.mark.parametrize(
    ("sources", "origin"),
    [
        ({"sets": ["train.lrr=1"]}, "--set"),
        ({"environment": {"MGAP_TRAIN__LRR": "1"}}, "environment"),
        ({"flags": {"train.lrr": 1}}, "command line"),
    ],
)
def test_an_unknown_key_is_refused_with_its_origin_and_a_suggestion(sources, origin):
    with pytest.raises(UsageError, match=rf"^{origin}: unknown setting 'train\.lrr'") as caught:
        resolve(Config(), **{"environment": {}, **sources})
    assert "train.lr?" in caught.value.hint
    assert caught.value.exit_code == ExitCode.USAGE


def test_an_unknown_key_in_a_file_is_refused_with_the_file(file):
    file.write_text("trian: {lr: 1}")
    with pytest.raises(UsageError, match=r"mine\.yaml: unknown setting 'trian\.lr'") as caught:
        resolve(Config(), file=file, environment={})
    assert "train.lr?" in caught.value.hint


def test_an_unknown_key_without_a_similar_one_gives_the_list():
    with pytest.raises(UsageError) as caught:
        Config().updated({"zzzzzz": 1}, "here")
    assert all(key in caught.value.hint for key in ("train.lr", "gap.kind"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train.lr", "fast"), ("train.lr", True), ("train.lr", None), ("train.lr", [1]),
        ("train.lr", {"a": 1}), ("train.batch_size", 1.5), ("train.batch_size", "many"),
        ("train.batch_size", True),
        ("train.batch_size", math.nan), ("train.batch_size", math.inf),
        ("augment.flip", 1), ("augment.flip", "yes please"),
        ("model.fusion", "average"), ("model.fusion", None), ("model.fusion", ["sum"]),
        ("warmup.method", ["joint"]), ("runtime.device", {}),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_refused(key, value):
    with pytest.raises(UsageError, match=rf"^here: {key} is .*; expected"):
        Config().updated({key: value}, "here")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train.lr", 0), ("train.lr", -1), ("train.lr", math.nan), ("train.lr", math.inf),
        ("train.momentum", -0.1), ("train.batch_size", 1), ("train.seed", -1), ("train.seed", 2**32),
        ("augment.scale_min", 0), ("augment.scale_min", 1.01), ("data.val_share", 0.95),
        ("adapt.threshold", math.nan), ("adaptive.alpha", math.nan), ("adaptive.alpha", -1),
        ("gap.sd_floor", 0), ("gap.components", 0), ("evaluate.confidence", 2),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_refused(key, value):
    with pytest.raises(UsageError, match=rf"^here: {key} is .*; it must be"):
        Config().updated({key: value}, "here")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train.seed", 2**32 - 1), ("augment.scale_min", 1), ("data.val_share", 0), ("train.clip_norm", 0),
        ("evaluate.confidence", 1),
    ],
)  # fmt: skip
def test_the_ends_of_a_range_are_allowed(key, value):
    assert Config().updated({key: value}, "here").flat()[key] == value


def test_every_default_is_in_its_own_range_and_of_its_own_type():
    assert from_dict(Config().to_dict(), "defaults") == Config()


@pytest.mark.parametrize("word", ["train.lr=1e-3", "train.lr=0.001", "train.lr = 1.0e-3", "train.lr='1e-3'"])
def test_numbers_as_people_write_them(word, file):
    assert resolve(Config(), sets=[word], environment={}).train.lr == 0.001
    file.write_text("train:\n  lr: 1e-3\n  batch_size: 16.0\n")  # YAML 1.1 reads 1e-3 as a string
    config = resolve(Config(), file=file, environment={})
    assert config.train.lr == 0.001
    assert config.train.batch_size == 16
    assert isinstance(config.train.batch_size, int)


def test_an_empty_value_clears_a_path():
    config = Config().updated({"model.audio_weights": "a.pth"}, "here")
    assert resolve(config, sets=["model.audio_weights="], environment={}).model.audio_weights == ""


@pytest.mark.parametrize("word", ["train.lr", "train.lr=[", ""])
def test_a_malformed_set_is_refused(word):
    with pytest.raises(UsageError, match="--set"):
        resolve(Config(), sets=[word], environment={})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[1, 2]", "mapping of sections"),
        ("", "mapping of sections"),
        ("train: [", "not valid YAML"),
        ("train: 3", "must hold a mapping"),
        ("train:", "must hold a mapping"),
        ("a: !!python/object/apply:os.system ['true']", "not valid YAML"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(text, reason, file):
    file.write_text(text)
    with pytest.raises(UsageError, match=reason) as caught:
        resolve(Config(), file=file, environment={})
    assert "mine.yaml" in caught.value.message
    assert "\n" not in caught.value.message


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x81")
    reasons = {"missing.yaml": "no such file", "binary.yaml": "cannot be read", ".": "is a folder"}
    for name, reason in reasons.items():
        with pytest.raises(UsageError, match=reason):
            read_yaml(tmp_path / name)


@given(
    st.fixed_dictionaries(
        {
            "train.lr": st.floats(1e-30, 1e30),
            "train.batch_size": st.integers(2, 2**31 - 1),
            "augment.flip": st.booleans(),
            "model.audio_weights": st.text(st.characters(codec="utf-8", exclude_categories=["C"])),
            "gap.kind": st.sampled_from(["absolute", "signed"]),
        }
    )
)
def test_yaml_round_trip(changes):
    config = Config().updated(changes, "here")
    assert from_dict(yaml.safe_load(config.to_yaml()), "there") == config


@pytest.mark.parametrize("name", presets())
def test_every_preset_loads_and_names_methods_that_exist(name):
    config = preset(name)
    assert {config.warmup.method, config.adapt.method} <= set(names())
    assert config.augment.image_size <= config.data.frame_size
    assert config.warmup.epochs < config.train.epochs  # something is left for adapt
    assert from_dict(yaml.safe_load(config.to_yaml()), name) == config


def test_presets_by_name():
    assert set(presets()) >= {"cremad", "ave", "kinetics-sounds", "digits"}
    assert preset("no such data set") == Config()
    assert preset("ave").data.frames == 3


def test_cremads_protocol_is_the_literatures():
    config = preset("cremad")
    data, train = config.data, config.train
    assert (data.frames, data.sample_rate, data.seconds, data.n_fft, data.hop) == (1, 22_050, 3.0, 512, 353)
    assert (train.optimizer, train.lr, train.momentum, train.weight_decay) == ("sgd", 1e-3, 0.9, 1e-4)
    assert (train.schedule, train.step_size, train.gamma, train.batch_size) == ("step", 70, 0.1, 64)
    assert config.augment.image_size == 224
    assert train.epochs == 100


def test_differing_keys_looks_at_the_sections_asked_for():
    other = Config().updated({"train.lr": 1, "runtime.device": "cpu"}, "here")
    assert differing_keys(Config(), other, ["train"]) == {"train.lr": (1e-3, 1.0)}
    assert differing_keys(Config(), other, ["gap"]) == {}


def test_a_configuration_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().train.lr = 1.0  # type: ignore[misc]


def test_an_environment_value_that_is_not_yaml_is_a_usage_error():
    with pytest.raises(UsageError, match="environment"):
        resolve(Config(), environment={"MGAP_TRAIN__LR": "["})


# --- hostile and extreme input


@pytest.mark.parametrize(
    ("text", "line", "key", "first"),
    [
        ("train:\n  lr: 1\n  seed: 2\n  lr: 3\n", 4, "lr", 2),
        ("train: {lr: 1}\ngap: {seed: 1}\ntrain: {lr: 2}\n", 3, "train", 1),
        ("a:\n  b:\n    - c: 1\n      c: 1\n", 4, "c", 3),
    ],
)
def test_a_duplicate_key_is_refused_with_file_line_and_key(text, line, key, first, file):
    file.write_text(text)
    with pytest.raises(UsageError) as caught:
        resolve(Config(), file=file, environment={})
    said = f"line {line}: the key '{key}' is given twice, here and in line {first}"
    assert caught.value.message == f"{file}: not valid YAML ({said})."


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 1000, "nested more than 20 levels deep"),
        ("{" * 100_000, "nested more than 20 levels deep"),
        ("- " * 1000, "nested more than 20 levels deep"),
        ("a: &a [1]\nb: &b [*a, *a]\n", r"line 2: \*a repeats a list or a mapping"),
        ("a: &a {lr: *a}", "repeats a list or a mapping"),
        ("a: *nobody", "undefined alias"),
        ("9" * 5000, "is not of type int"),
        ("!!int x", "line 1: 'x' is not of type int"),
        ("!!timestamp 2001-99-99", "constructor"),
        ("'\\U00110000'".replace("'", '"'), "not valid YAML"),
        (f"%YAML {'9' * 5000}\n--- a", "not valid YAML"),
        ("a: 1\nb: \x1b[31m", "line 2: the character 0x1b is not allowed"),
        ("? [a]\n: 1", "unhashable"),
        ("--- 1\n--- 2", "another document"),
        ("1: {lr: 2}", "1 is not the name of a setting"),
        ("train: {2001-01-01: 2}", "unknown setting"),
        (f"train:\n  ? 0x{'f' * 9999}\n  : 2", "is not the name of a setting"),
        (f"train: {{seed: 0x{'f' * 9999}}}", "expected a whole number"),
        ('model: {audio_weights: "a\\0b"}', "expected text"),
        ("train: {lr: 2001-99-99}", "train.lr is '2001-99-99'; expected a number"),
    ],
)
def test_hostile_yaml_is_refused_in_one_line(text, reason, file):
    file.write_text(text)
    with pytest.raises(UsageError, match=reason) as caught:
        resolve(Config(), file=file, environment={})
    assert caught.value.message.startswith(str(file))
    assert "\n" not in caught.value.message and len(caught.value.message) < len(str(file)) + 300


def test_one_number_may_be_repeated_by_an_alias(file):
    file.write_text("train: {seed: &seed 7}\ngap: {seed: *seed}\n")
    config = resolve(Config(), file=file, environment={})
    assert (config.train.seed, config.gap.seed) == (7, 7)


def test_only_a_regular_file_of_reasonable_size_is_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "large").write_text("#" * (LARGEST_FILE + 1))
    (tmp_path / "x.pt").touch()  # settings are read before the content of a checkpoint
    for name, reason in (("pipe", "a pipe"), ("zero", "a device"), ("loop", "loop"), ("large", "too large")):
        with pytest.raises(UsageError, match=reason):
            read_yaml(tmp_path / name)
        done = call("evaluate", tmp_path / "x.pt", "--config", tmp_path / name)
        done.is_clean()
        assert done.code == 2 and reason in done.err
    (tmp_path / "file").write_text("train: {lr: 0.5}")
    (tmp_path / "link").symlink_to("file")
    assert read_yaml(tmp_path / "link") == {"train": {"lr": 0.5}}


def test_two_variables_that_set_one_thing_are_refused():
    with pytest.raises(UsageError, match=r"sets train\.lr, which another variable sets too"):
        resolve(Config(), environment={"MGAP_TRAIN__LR": "1", "MGAP_train__lr": "2"})


@pytest.mark.parametrize("value", ["1e300", "-1e300", "1e-300", "9" * 400, ".inf", "[]", "{}", '"\\0"'])
def test_an_extreme_value_is_taken_or_refused(value):
    for setting in Config().flat():
        try:
            config = resolve(Config(), sets=[f"{setting}={value}"], environment={})
        except UsageError as error:
            assert setting in error.message and len(error.message) < 300
        else:
            numbers = [v for v in config.flat().values() if isinstance(v, int | float)]
            assert all(abs(v) <= 1e30 for v in numbers)


def test_a_floor_that_no_gap_can_have_is_refused():
    with pytest.raises(UsageError, match=r"sd_floor is 1e\+300; it must be at least 0\.0001 and at most 1"):
        resolve(Config(), sets=["gap.sd_floor=1e300"], environment={})


# Hypothesis builds settings from pieces of YAML, names, numbers and escape sequences.
PIECES = [
    *("[", "]", "{", "}", ": ", ":", "\n", "\n  ", " ", "- ", "? ", "&a ", "*a", "<<: ", "'", '"', "\\", "#"),
    *("!!int ", "!!float ", "!!timestamp ", "!!binary ", "!!set ", "!x ", "%YAML 1.1\n", "---\n", "|\n", ","),
    *("train", "lr", "gap", "sd_floor", "1", "1e9", "-", ".inf", ".nan", "0x", "1:30", "2001-99-99", "~"),
    *("\x1b[31m", "\x9b", "\u202e", "\u2028", "\r", "\t", "\ufeff", "9" * 5000, "[/x]", "yes", "...\n"),
]
YAML_TEXT = st.text() | st.lists(st.sampled_from(PIECES), max_size=25).map("".join)
SETTING = st.sampled_from(sorted(Config().flat()))
SET = YAML_TEXT | st.builds("{}={}".format, SETTING | st.text(max_size=9), YAML_TEXT)


def judged(**sources) -> None:
    """Resolve settings: they are accepted, or refused in one line that a terminal can show."""
    try:
        config = resolve(Config(), **{"environment": {}, **sources})
    except UsageError as error:
        for text in (error.message, error.hint):
            assert not STEERING.search(printable(text)) and len(text) < 4_000
        assert error.exit_code == ExitCode.USAGE
    else:
        assert from_dict(yaml.safe_load(config.to_yaml()), "again") == config


@given(st.lists(SET, max_size=3))
def test_any_set_is_taken_or_refused(words):
    judged(sets=words)


@given(st.dictionaries(SETTING.map(lambda s: "MGAP_" + s.replace(".", "__").upper()), YAML_TEXT, max_size=3))
def test_any_environment_is_taken_or_refused(environment):
    judged(environment=environment)


@given(content=st.binary(max_size=99) | YAML_TEXT.map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_file_is_taken_or_refused(content, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content)
    judged(file=path)


@settings(max_examples=30)
@given(
    words=st.lists(SET.filter(lambda word: "\0" not in word), max_size=2),
    content=st.none() | st.binary(max_size=50) | YAML_TEXT.map(str.encode),
)
def test_the_command_line_survives_any_settings(words, content, tmp_path_factory):
    """The checkpoint is an empty file: the command fails because of a setting or of the checkpoint."""
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content or b"{}")
    checkpoint = tmp_path_factory.getbasetemp() / "empty.pt"
    checkpoint.touch()
    done = call("evaluate", checkpoint, "--config", path, *sets(*words))
    done.is_clean()
    assert done.code in (2, 3)

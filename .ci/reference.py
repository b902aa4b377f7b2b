"""Write mgap_cli/docs/reference.md and the table of commands in README.md from the program itself.

With --check, fail if what is there differs.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import typer

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
REFERENCE = ROOT / "mgap_cli" / "docs" / "reference.md"
START, END = "<!-- reference:start -->", "<!-- reference:end -->"
INTRODUCTION = """\
# Reference

Every command with its options, and every setting.

This page is written by `python .ci/reference.py`. Do not edit it.

## How settings are resolved

A setting comes from the first of these that has it:

1. a named option on the command line, such as `--lr`
2. `--set section.key=value`
3. the environment, `MGAP_SECTION__KEY`
4. a YAML file, `--config FILE.yaml`
5. the preset of the data set
6. the default

`adapt` starts from the settings of its checkpoint. `--dry-run` prints all settings that a command would use.
A method's own settings have the method's name as their section, such as `adaptive.lambda_gap`; their defaults
are in the method's file. A settings file is a regular UTF-8 file. A duplicate key is an error, and so is an
alias of a list or a mapping.
"""


def commands() -> Iterator[tuple[str, str, Any]]:
    """Yield name, usage and command of each command."""
    from mgap_cli.app import app

    for name, command in typer.main.get_command(app).commands.items():
        context = command.make_context(name, [], resilient_parsing=True)
        arguments = [piece for piece in command.collect_usage_pieces(context) if piece != "[OPTIONS]"]
        yield name, " ".join(["mgap", name, *(a.upper() for a in arguments)]), command


def command_table() -> str:
    """Return one row per command: usage, what it does, what stdout gets; from its docstring's first line."""
    rows = ["| command | what it does | stdout gets |", "|---|---|---|"]
    for _, usage, command in commands():
        summary = " ".join(command.help.split("\n\n")[0].split()).rstrip(".")
        does, _, prints = summary.partition("; prints ")
        rows.append(f"| `{usage}` | {does} | {prints or 'tables'} |")
    return "\n".join(rows)


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def annotations(name: str) -> dict[str, Any]:
    """Return the annotations of a command's parameters."""
    from mgap_cli.app import app

    for registered in app.registered_commands:
        function = registered.callback
        if function and name == (registered.name or function.__name__.replace("_", "-")):
            parameters = inspect.signature(function, eval_str=True).parameters.values()
            return {parameter.name: parameter.annotation for parameter in parameters}
    raise LookupError(name)


def choices(annotation: Any) -> tuple[str, ...]:
    """Return the choices of a Literal, wherever in an annotation it is."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return next((found for part in get_args(annotation) if (found := choices(part))), ())


def command_section(name: str, usage: str, command: Any) -> str:
    """Return a command's usage, its help and a table of its arguments and options."""
    types = annotations(name)
    lines = [f"### mgap {name}", "", f"`{usage} [OPTIONS]`", "", textwrap.dedent(command.help).strip(), ""]
    lines += ["| argument or option | meaning | default |", "|---|---|---|"]
    for parameter in command.params:
        if parameter.name == "help" or getattr(parameter, "hidden", False):
            continue
        is_option = parameter.param_type_name == "option"
        names = (
            ", ".join([*parameter.opts, *parameter.secondary_opts]) if is_option else parameter.name.upper()
        )
        allowed = choices(types.get(parameter.name))
        meaning = parameter.help or ""
        if not all(choice in meaning for choice in allowed):
            meaning = f"{meaning.rstrip('.')}: {', '.join(allowed)}."
        shown, default = parameter.show_default, parameter.default
        if not isinstance(shown, str):
            shown = str(default) if shown and default not in (None, False, (), []) else ""
        lines.append(f"| `{names}` | {cell(meaning)} | {cell(shown)} |")
    return "\n".join(lines)


def option_help() -> dict[str, str]:
    """Return, for each setting that an option sets, that option's help."""
    from mgap_cli.commands import _options, adapt, train, warmup

    groups = [v for module in (_options, adapt, train, warmup) for v in vars(module).values()]
    found: dict[str, str] = {}
    for option in (o for group in groups if isinstance(group, dict) for o in group.values()):
        parts = get_args(option)
        for setting in (part for part in parts if isinstance(part, _options.Setting)):
            found.setdefault(setting.key, next(p.help for p in parts if getattr(p, "help", None)))
    return found


def described(settings: type) -> dict[str, str]:
    """Return what a class of settings says about its fields: in a comment beside one, or in its docstring."""
    found: dict[str, str] = {}
    documentation = " ".join((settings.__doc__ or "").split())
    for owner in reversed(settings.__mro__[:-1]):
        for line in inspect.getsource(owner).splitlines():
            if comment := re.match(r"    (\w+): .*\)?  # (.+)$", line):
                found[comment[1]] = comment[2]
        documentation = documentation if ": " in documentation else " ".join((owner.__doc__ or "").split())
    entry = r"(?:^|\. )((?:\w+, )*\w+): (.+?)(?=\. (?:\w+, )*\w+: |\.?$)"
    for names, text in re.findall(entry, documentation):
        found |= {name: text for name in names.split(", ") if name not in found}
    return found


def values_of(field: dataclasses.Field[Any], hint: Any) -> str:
    """Return the choices of a setting, or its bounds; an upper bound that no user needs is left out."""
    from mgap_cli import config

    if get_origin(hint) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(hint))
    if hint is bool:
        return "`true`, `false`"
    limits = str(field.metadata.get("range", ""))
    return limits.removesuffix(f" and at most {config.LARGEST_NUMBER:.10g}").removesuffix(
        f" and at most {config.LARGEST_COUNT:.10g}"
    )


def settings_sections() -> Iterator[str]:
    """Yield a table of the settings of each section. Exits if a setting is described nowhere."""
    from mgap_cli import config, methods

    whole = config.Config().with_methods(methods.names())
    helps, presets = option_help(), {name: config.preset(name).flat() for name in config.presets()}
    core = {f.name: getattr(whole, f.name) for f in dataclasses.fields(whole) if f.name != "methods"}
    for section, settings in {**core, **dict(sorted(whole.methods.items()))}.items():
        fields = dataclasses.fields(settings)
        if not fields:
            continue
        hints, texts = get_type_hints(type(settings)), described(type(settings))
        lines = [f"### {section}", "", "| setting | meaning | default | values |", "|---|---|---|---|"]
        for field in fields:
            key = f"{section}.{field.name}"
            meaning = texts.get(field.name) or helps.get(key)
            if not meaning:
                sys.exit(
                    f"{key}: no description; write a comment after the field in {type(settings).__name__}"
                )
            meaning = meaning[0].upper() + meaning[1:].rstrip(".")
            default = plain(getattr(settings, field.name))
            others = [
                f"{n}: {plain(p[key])}" for n, p in presets.items() if key in p and plain(p[key]) != default
            ]
            lines.append(
                f"| `{key}` | {cell(meaning)} | {'; '.join([default, *others])} "
                f"| {values_of(field, hints[field.name])} |"
            )
        yield "\n".join(lines)


def plain(value: Any) -> str:
    """Return a setting's value as a user would write it."""
    if isinstance(value, tuple):
        return ", ".join(f"{v:g}" for v in value)
    return str(value).lower() if isinstance(value, bool) else str(value) if value != "" else "(empty)"


def reference() -> str:
    """Return the whole page."""
    sections = [INTRODUCTION.strip(), "## Commands", *(command_section(*c) for c in commands())]
    return "\n\n".join([*sections, "## Settings", *settings_sections()]) + "\n"


def readme(text: str) -> str:
    """Return the README with its table of commands written again."""
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        sys.exit(f"README.md: lacks {START} and {END}")
    return f"{before}{START}\n{command_table()}\n{END}{after}"


def drifted() -> dict[Path, str]:
    """Return the files that are not what the program says, with their new text."""
    there = README.read_text(encoding="utf-8")
    page = REFERENCE.read_text(encoding="utf-8") if REFERENCE.is_file() else ""
    made = {README: (there, readme(there)), REFERENCE: (page, reference())}
    return {path: new for path, (old, new) in made.items() if old != new}


def main() -> None:
    changed = drifted()
    if "--check" not in sys.argv[1:]:
        for path, text in changed.items():
            path.write_text(text, encoding="utf-8")
    elif changed:
        names = ", ".join(str(path.relative_to(ROOT)) for path in changed)
        sys.exit(f"{names}: not what the program says; run: python .ci/reference.py")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()

"""The tables of `inspect`: the facts of a store, and its clips by split, class and group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import combinations

from rich.console import RenderableType
from rich.table import Table

from mgap_cli.data.clips import SPLITS
from mgap_cli.data.media.filter_banks import MEAN, SD, WINDOW_MS
from mgap_cli.data.summary import Counts, Summary, spread
from mgap_cli.report.layout import (
    add_numbers,
    cropped,
    new_table,
    percent,
    printable,
    shortened,
    size,
    titled,
    verbatim,
)

CLASSES_LISTED = 40  # with more classes than this, only the largest and smallest are shown
GROUPS_LISTED = 8
REASONS_LISTED = 10
EXAMPLES = 3  # of each kind of leak


def overview_table(summary: Summary, verified: bool) -> RenderableType:
    """Return the facts of the store: origin, shapes, size on disk, fingerprint."""
    protocol = summary.protocol
    asked = [
        f"{name.replace('_', ' ')} {_option(value)}" for name, value in summary.source["options"].items()
    ]
    files = ", ".join(f"{file} {size(count)}" for file, count in summary.bytes.items())
    rows = {
        "data set": "; ".join([summary.name, *asked]),
        "protocol": summary.protocol_name,
        "from": str(summary.source["root"]) or "no files",
        **_shape_rows(summary),
        "size": f"{size(sum(summary.bytes.values()))} ({files})",
        "made by": f"mgap {summary.version}, data.seed {protocol['seed']}, "
        f"data.val_share {protocol['val_share']:g}",
        "fingerprint": summary.fingerprint,
        "verified": "yes: every byte is as prepare wrote it" if verified else "no: --verify reads every byte",
    }
    table = new_table(headed=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, verbatim(printable(value)))
    n = sum(summary.splits.values())
    return titled(f"Store {printable(summary.path)}, n = {n}", table)


def _shape_rows(summary: Summary) -> dict[str, str]:
    """Return one sample's shape in words, by modality; frames first."""
    protocol, rows = summary.protocol, {}
    for modality in sorted(summary.modalities, key=lambda m: m.kind != "frames"):
        _, *shape = summary.shapes[modality.name]
        if modality.kind == "frames":
            crop = ", ".join(f"{part:g}" for part in protocol["crop"])
            cropped = "" if protocol["crop"] == (0, 0, 1, 1) else f", crop (x, y, w, h) {crop} of the frame"
            drawn = f"{protocol['frames']} drawn from " if protocol["candidates"] else ""
            rows["frames"] = f"{drawn}{shape[0]} of {shape[1]} x {shape[2]} pixels{cropped}"
        elif modality.kind == "spectrogram" and protocol["audio"] == "fbank":
            rows[modality.name] = (
                f"Kaldi log mel filter banks, {shape[0]} bins x {shape[1]} columns of 10 ms: "
                f"{protocol['seconds']:g} s at {protocol['sample_rate']} Hz, windows of {WINDOW_MS:g} ms, "
                f"(x - {MEAN:g}) / {SD:g}"
            )
        elif modality.kind == "spectrogram":
            rows[modality.name] = (
                f"log-spectrogram, {shape[0]} bins x {shape[1]} columns: {protocol['seconds']:g} s at "
                f"{protocol['sample_rate']} Hz, n_fft {protocol['n_fft']}, hop {protocol['hop']}"
            )
        else:
            steps = f"up to {shape[0]} steps of " if modality.kind == "sequence" else ""
            rows[modality.name] = f"{steps}{shape[-1]} features"
    return rows


def split_table(summary: Summary) -> RenderableType:
    """Clips, skipped clips, classes, groups and durations by split."""
    n, skipped = sum(summary.splits.values()), Counter(skip.split for skip in summary.skipped)
    table = new_table()
    table.add_column("split")
    add_numbers(table, "clips", "share\n%", "skipped", "classes", "groups")
    add_numbers(table, "shortest\ns", "median\ns", "longest\ns", "total\nh")
    for split, count in [*summary.splits.items(), ("all", n)]:
        chosen = {*summary.splits} if split == "all" else {split}
        present = [
            sum(not chosen.isdisjoint(counts) for counts in named.values())
            for named in (summary.classes, summary.groups)
        ]
        values = [value for name in chosen for value in summary.seconds.get(name, [])]
        times = spread(values) if values else {}
        table.add_row(
            verbatim(printable(split)),
            str(count),
            percent(count / n),
            str(sum(skipped[name] for name in chosen)),
            *map(str, present),
            *(f"{times[key]:.2f}" if times else "-" for key in ("shortest", "median", "longest")),
            f"{times['total'] / 3600:.2f}" if times else "-",
        )
    return titled(f"Clips by split, n = {n}", table)


def class_table(summary: Summary) -> RenderableType:
    """Clips by class and split, in the classes' order."""
    title = f"Clips by class, {len(summary.classes)} classes"
    return titled(title, _counts_table("class", summary.classes, summary.splits, CLASSES_LISTED))


def group_table(summary: Summary) -> RenderableType:
    """Clips by group and split: the largest and the smallest groups."""
    if not summary.groups:
        return titled("Clips by group: the data set names no groups")
    sizes = sorted(sum(counts.values()) for counts in summary.groups.values())
    of = f"{sizes[0]} to {sizes[-1]} clips" if sizes[0] < sizes[-1] else f"{sizes[0]}"
    title = f"Clips by group, {len(sizes)} groups of {of}"
    return titled(title, _counts_table("group", summary.groups, summary.splits, GROUPS_LISTED))


def leak_table(summary: Summary) -> RenderableType:
    """Return the numbers of ids, files and groups that are in more than one split, by splits."""
    pairs = list(combinations(summary.splits, 2))
    leaks_of = {"ids": summary.leaks.ids, "files": summary.leaks.files, "groups": summary.leaks.groups}
    table = new_table()
    table.add_column("shared")
    add_numbers(table, *(f"{a}\n{b}" for a, b in pairs), "in any\ntwo", "clips\nconcerned")
    for what, leaks in leaks_of.items():
        shared = (sum(a in counts and b in counts for counts in leaks.values()) for a, b in pairs)
        clips = sum(sum(counts.values()) for counts in leaks.values())
        table.add_row(what, *map(str, shared), str(len(leaks)), str(clips))
    notes = [_examples(what, leaks) for what, leaks in leaks_of.items() if leaks]
    if not summary.groups:
        notes.append("Without groups, this table cannot show a speaker or source video in two splits.")
    if summary.leaks_kept is not None:
        kept = (
            "kept in train (--keep-leaks)" if summary.leaks_kept else "dropped from train (no --keep-leaks)"
        )
        notes.append(f"Leaks that prepare found were {kept}.")
    notes += [f"prepare said: {printable(note)}." for note in summary.notes]
    return titled(f"Leakage between splits{'' if any(leaks_of.values()) else ': none'}", table, *notes)


def skip_table(summary: Summary) -> RenderableType:
    """Clips that prepare could not read, by reason and split."""
    n = len(summary.skipped)
    if not n:
        return titled("Skipped clips: none")
    by_reason = Counter(skip.reason for skip in summary.skipped).most_common()
    by_split = Counter((skip.reason, skip.split) for skip in summary.skipped)
    splits = [split for split in SPLITS if any(skip.split == split for skip in summary.skipped)]
    table = new_table()
    add_numbers(table, "clips", *splits)
    table.add_column("reason", overflow="fold")
    for reason, count in by_reason[:REASONS_LISTED]:
        cells = (str(by_split[reason, split]) for split in splits)
        table.add_row(str(count), *cells, verbatim(printable(reason)))
    if rest := by_reason[REASONS_LISTED:]:
        table.add_row(
            str(sum(count for _, count in rest)), *[""] * len(splits), f"{len(rest)} more reasons (--json)"
        )
    return titled(f"Skipped clips, n = {n}", table, "Each of them is in skipped.csv.")


def _counts_table(heading: str, named: Mapping[str, Counts], splits: Counts, listed: int) -> Table:
    """One row per name, the largest first; if there are more than `listed`, the largest and the smallest."""
    rows = list(named.items())
    if len(rows) > listed:
        rows.sort(key=lambda row: -sum(row[1].values()))
        end = listed // 2
        between = rows[end:-end]
        rows[end:-end] = [(f"... {len(between)} between", _together(counts for _, counts in between))]
    table = new_table()
    table.add_column(heading)
    add_numbers(table, *splits, "all", "share\n%")
    for name, counts in [*rows, ("all", _together(named.values()))]:
        n = sum(counts.values())
        cells = (str(counts.get(split, 0)) for split in splits)
        table.add_row(cropped(name, middle=True), *cells, str(n), percent(n / sum(splits.values())))
    return table


def _together(parts: Iterable[Counts]) -> Counts:
    return dict(sum((Counter(counts) for counts in parts), Counter[str]()))


def _examples(what: str, leaks: Mapping[str, Counts]) -> str:
    examples = []
    for name, counts in list(leaks.items())[:EXAMPLES]:
        where = ", ".join(f"{split} {count}" for split, count in counts.items())
        examples.append(f"{shortened(printable(name), 40, middle=True, mark='~')} ({where})")
    more = [f"{len(leaks) - EXAMPLES} more"] if len(leaks) > EXAMPLES else []
    return f"{what}: {'; '.join([*examples, *more])}"


def _option(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)

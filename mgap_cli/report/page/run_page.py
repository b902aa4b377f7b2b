"""A run folder as one page: its settings, its results and the most imbalanced clips."""

from __future__ import annotations

import dataclasses
import shlex
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mgap_cli import __version__
from mgap_cli.analysis.breakdown import breakdown, usual_columns
from mgap_cli.analysis.causes import ModalityCause
from mgap_cli.config import AnalysisConfig, Config, protocol_text
from mgap_cli.data.store import Store
from mgap_cli.data.summary import summarise
from mgap_cli.errors import MgapError
from mgap_cli.files import MALFORMED, damaged
from mgap_cli.gap.mixture import GapFit
from mgap_cli.gap.saved import saved_fit
from mgap_cli.modalities.audio_visual import AUDIO_VISUAL
from mgap_cli.report.documents import MOVEMENT_SCHEMA
from mgap_cli.report.figures.contact_sheet import CLIPS, clip_figures
from mgap_cli.report.figures.gap import gap_figure, png_bytes
from mgap_cli.report.figures.history import history_figure
from mgap_cli.report.layout import printable
from mgap_cli.report.page.html import Section, figure_html, fragment, page, pairs_html
from mgap_cli.report.tables import gap as tables
from mgap_cli.report.tables import gap_analysis as gap_tables
from mgap_cli.report.tables import run as run_tables
from mgap_cli.report.tables import store as store_tables
from mgap_cli.report.tables.causes import causes_table
from mgap_cli.report.tables.movement import history_tables
from mgap_cli.runs.layout import STAGES, gap_path
from mgap_cli.runs.reader import RunFolder

TOP = 20  # samples that are listed

PLOTS = {  # the endings of the PNG files that evaluate writes: what they show
    "-confusion": "Confusion matrices",
    "-calibration": "Reliability: accuracy over confidence",
    "-robustness": "Accuracy under noise, occlusion and without a modality",
}


class RunReport:
    """Builds the page of a run.

    verdict: its sentences. figure: the figure below them. missing: the sections that lack a result.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.verdict: list[str] = []
        self.figure = ""
        self.missing: list[str] = []
        self.store: Store | None = None
        self.fit: GapFit | None = None

    def html(self) -> str:
        """Return the page. Raises UnfitError for files of the folder that are damaged."""
        unavailable = ""
        try:
            self.store = self.run.open_store()
        except MgapError as error:
            unavailable = f"The data cannot be shown: {error.message} {error.hint}".strip()
        sections = [
            self._built("run", "What was run", self._what_was_run, "metrics.jsonl"),
            self._gaps(),
            self._built("evaluation", "Evaluation", self._evaluation, "evaluate.json"),
            self._built("time", "Over time", self._over_time, "metrics.jsonl"),
            self._built("moves", "Which samples moved", self._moves, "movement.json"),
            self._clips(unavailable),
            self._data(unavailable),
            self._built("configuration", "Configuration", self._configuration, "config.yaml"),
            self._built("environment", "Environment", self._environment, "env.json"),
        ]
        status = self.run.status
        state = (
            f"{status.get('state', 'state unknown')} in stage {status['stage']}" if "stage" in status else ""
        )
        subtitle = "; ".join(filter(None, [f"by mgap {__version__}", str(self.run.path.resolve()), state]))
        if state and status.get("state") != "done":
            self.verdict.append(f"The run is not finished: {state}, epoch {status.get('epoch')}.")
        return page(f"mgap report: {self.run.name}", subtitle, self.verdict, sections, self.figure)

    def _built(self, key: str, title: str, build: Callable[[Section], None], file: str) -> Section:
        section = Section(key, title)
        self._fill(section, build, file)
        return section

    def _fill(self, section: Section, build: Callable[[Section], None], file: str) -> None:
        try:
            build(section)
        except (*MALFORMED, struct.error) as error:  # ValueError: from a PNG file that is cut short
            raise damaged(self.run.path / file, error) from error

    def _lacks(self, section: Section, what: str, command: str) -> None:
        self.missing.append(section.key)
        section.say(
            f"{what} To add it: `{command}`, then `{self.run.command('report', str(self.run.path))}`.",
            missing=True,
        )

    def _current(self, section: Section, file: str, command: str) -> dict[str, Any] | None:
        """Return a document; None, with a note in the section, if there is none for these checkpoints."""
        document = self.run.document(file)
        if document is None:
            self._lacks(section, "There are no results yet.", command)
            return None
        outdated = self.run.outdated(document.get("sha256", {}))
        if outdated:
            what = f"{file} is left out, as it is for an earlier {', '.join(outdated)} than the folder's."
            self._lacks(section, what, command)
            return None
        return document

    def _what_was_run(self, section: Section) -> None:
        run = self.run
        if not run.epochs:
            section.say("No epoch is finished yet.", missing=True)
            return
        section.add(run_tables.stage_table(run))
        facts = {}
        if run.environment.get("command"):
            facts["last command"] = _command_line(run.environment)
        if self.store is not None:
            counts = ", ".join(f"{s} {int((self.store.splits == s).sum())}" for s in ("train", "val", "test"))
            facts["data"] = f"{self.store.name}, {self.store.path}"
            facts["protocol"] = protocol_text(self.store.preset, self.store.data_config)
            facts["samples"] = counts
        facts["seed"] = str(run.settings.get("train.seed", "-"))
        section.blocks.append(pairs_html("Run", facts))

    def _gaps(self) -> Section:
        """Show the analysis of each stage; only the analysis of the warm-up is required."""
        section = Section("gap", "Modality gap")
        needed = "adapt" if [*self.run.checkpoints] == ["adapt"] else "warmup"
        for stage in STAGES:
            document = gap_path(self.run.path / f"{stage}.pt", ".json")
            if stage == needed or document.is_file():
                self._fill(section, partial(self._gap, stage), document.name)
        return section

    def _gap(self, stage: str, section: Section) -> None:
        checkpoint = f"{stage}.pt"
        command = self.run.command("analyze-gap", checkpoint)
        csv, json = (gap_path(self.run.path / checkpoint, suffix) for suffix in (".csv", ".json"))
        document = self._current(section, json.name, command)
        if document is None:
            return
        split = document["split"]
        columns = {}
        if self.store is not None:
            columns = {
                name: dict(zip(self.store.ids, values, strict=True))
                for name, values in self.store.columns.items()
            }
        section.say(f"For `{checkpoint}`, on the {split} split.")
        fit = saved_fit(csv, document["fits"][split], columns) if csv.is_file() else None
        if fit is None or len(fit.scores) != document["fits"][split]["n"]:
            self._lacks(section, f"There is no {csv.name} for this split.", command)
            section.add(run_tables.split_table(document))
            return
        if self.fit is None:
            self.fit = fit
        if fit.bimodality:
            self.verdict.append(f"Gaps of {checkpoint} on {split}: {fit.bimodality.sentence.rstrip('.')}.")
            section.add(gap_tables.verdict_table(fit, split))
        shares = f"{fit.balanced_share:.1%} of {len(fit.scores)} samples balanced"
        figure = figure_html(
            png_bytes(gap_figure(fit, split)),
            f"Histogram of the modality gaps, the mixture's components and the posterior curve: {shares}.",
            f"Gaps of {checkpoint} on {split}: histogram, mixture and posterior of imbalance; {shares}.",
        )
        if self.figure:
            section.blocks.append(figure)
        else:
            self.figure = figure
        section.add(tables.component_table(fit, split), run_tables.split_table(document))
        analysis = self._analysis_config(fit)
        section.add(tables.diagnostics_table(fit, split), tables.lead_table(fit, analysis.confidence, split))
        everyone = np.ones(len(fit.scores), dtype=bool)
        for column in usual_columns(fit):
            section.add(gap_tables.breakdown_table(breakdown(fit, column, everyone, analysis), fit, split))
        section.add(tables.posterior_table(fit, TOP, split))
        causes = [ModalityCause.from_dict(each) for each in document.get("causes", [])]
        if causes:
            section.add(causes_table(causes, analysis.confidence))

    def _analysis_config(self, fit: GapFit) -> AnalysisConfig:
        """Return the settings of the analysis that is shown: its confidence, and the run's number of bins."""
        usual = AnalysisConfig()
        bins = int(self.run.settings.get("analysis.bins", usual.bins))
        confidence = fit.bimodality.confidence if fit.bimodality else usual.confidence
        return dataclasses.replace(usual, confidence=confidence, bins=bins)

    def _evaluation(self, section: Section) -> None:
        trained = [f"{stage}.pt" for stage in self.run.checkpoints] or ["warmup.pt"]
        document = self._current(section, "evaluate.json", self.run.command("evaluate", *trained))
        if document is None:
            return
        if "verdict" in document:
            self.verdict = [*document["verdict"], *self.verdict]
        else:
            what = "evaluate.json is of an earlier version of mgap, and has no verdict."
            self._lacks(section, what, self.run.command("evaluate", *trained))
        section.add(*run_tables.evaluation_tables(document))
        for png in sorted(self.run.path.glob("evaluate-*.png")):
            what = next((text for ending, text in PLOTS.items() if png.stem.endswith(ending)), png.stem)
            self._embed(section, png, f"{what} ({png.name})")

    def _over_time(self, section: Section) -> None:
        if not self.run.epochs:
            section.say("No epoch is finished yet.", missing=True)
            return
        last = self.run.epochs[-1]
        section.picture(
            png_bytes(history_figure(self.run.epochs, self.run.name)),
            "Accuracies of the heads and, in the adaptive stage, the mixture's means and weights over "
            f"{len(self.run.epochs)} epochs, to {last['stage']} epoch {last['epoch']}.",
        )
        section.add(*history_tables(self.run.epochs))

    def _moves(self, section: Section) -> None:
        if len(self.run.checkpoints) < 2:
            section.say("Moves need two finished stages, a warm-up and an adaptive one.")
            return
        command = self.run.command("analyze-gap", "warmup.pt", "adapt.pt", "--plot")
        document = self._current(section, "movement.json", command)
        if document is None:
            return
        schema = document.get("schema", MOVEMENT_SCHEMA)
        if schema != MOVEMENT_SCHEMA:
            reads = f"{schema}; this one reads {MOVEMENT_SCHEMA}"
            self._lacks(section, f"movement.json is of another version of mgap ({reads}).", command)
            return
        fixed = document["since_first"][-1]["fixed"]
        recovered, _, worsened, _ = fixed["moves"]
        parts = []
        for move, name in ((recovered, "imbalanced"), (worsened, "balanced")):
            if move["interval"]:
                low, high = move["interval"]
                parts.append(
                    f"{move['samples']} of the {name} ({move['share_of_before']:.1%}, "
                    f"{low:.1%} to {high:.1%}) became {move['after']}"
                )
        first, last = document["checkpoints"][0], document["checkpoints"][-1]
        self.verdict.append(
            f"From {first} to {last} on {document['split']}, n = {document['n']}, by the mixture of {first}: "
            f"{'; '.join(parts)}."
        )
        section.add(*run_tables.move_tables(document))
        self._embed(
            section, self.run.path / "movement.png", f"Each sample's gap at {last} over its gap at {first}"
        )

    def _embed(self, section: Section, png: Path, what: str) -> None:
        if not png.is_file():
            return
        content = png.read_bytes()
        if not content.startswith(b"\x89PNG"):
            raise damaged(png, "not a PNG")
        section.picture(content, f"{what}.", f"{what}.")

    def _clips(self, unavailable: str) -> Section:
        section = Section("clips", "The most imbalanced clips")
        if unavailable:
            section.say(unavailable, missing=True)
            self.missing.append("clips")
            return section
        if self.fit is None or self.store is None:
            section.say("These clips are not known yet: see the modality gap above.", missing=True)
            self.missing.append("clips")
            return section
        if self.store.modalities != AUDIO_VISUAL:
            section.say("This store has arrays and no clips, so there is nothing to show.", missing=True)
            return section
        fit, store = self.fit, self.store
        row_of = {id_: i for i, id_ in enumerate(store.ids)}
        order = np.lexsort((-np.abs(fit.scores.gap), -fit.posterior))[:CLIPS].tolist()
        order = [i for i in order if fit.scores.ids[i] in row_of]
        if not order:
            section.say("The store has none of the samples that were analysed.", missing=True)
            return section
        rows = [row_of[fit.scores.ids[i]] for i in order]
        section.say(
            f"The {len(order)} samples that the mixture finds most imbalanced, as the network gets them: "
            "frames, then the log-spectrogram, on one scale of loudness. A dashed line marks where the sound "
            "of a shorter clip starts again."
        )
        cells = []
        for i, figure in zip(order, clip_figures(store, rows), strict=True):
            id_, label = fit.scores.ids[i], fit.scores.classes[fit.scores.labels[i]]
            p, gap = {name: float(values[i]) for name, values in fit.scores.p.items()}, fit.scores.gap[i]
            leads = max(p, key=lambda name: p[name])
            each = ", ".join(f"p {name} {value:.3f}" for name, value in p.items())
            numbers = f"{each}, gap {gap:+.3f}, posterior {fit.posterior[i]:.3f}"
            caption = fragment("clip_caption", label, id_, numbers)
            alt = f"Frames and spectrogram of {id_}, class {label}: {leads} leads, gap {gap:+.2f}."
            cells.append(figure_html(png_bytes(figure), alt, caption))
        section.blocks.append(fragment("clips", cells))
        return section

    def _data(self, unavailable: str) -> Section:
        section = Section("data", "Data: leakage and skipped clips")
        if self.store is None:
            section.say(unavailable, missing=True)
            self.missing.append("data")
            return section
        summary = summarise(self.store)
        section.add(
            store_tables.leak_table(summary),
            store_tables.skip_table(summary),
            store_tables.split_table(summary),
            store_tables.class_table(summary),
            store_tables.group_table(summary),
            store_tables.overview_table(summary, False),
        )
        return section

    def _configuration(self, section: Section) -> None:
        if not self.run.config_text:
            section.say("There is no config.yaml yet.", missing=True)
            return
        usual = Config().flat()
        changed = {
            key: f"{_plain(value)} (default {_plain(usual.get(key, '-'))})"
            for key, value in self.run.settings.items()
            if _plain(value) != _plain(usual.get(key, "-"))
        }
        section.blocks.append(pairs_html("Settings that differ from the defaults", changed))
        lines = "\n".join(printable(line) for line in self.run.config_text.splitlines())
        section.blocks.append(fragment("settings_file", lines))

    def _environment(self, section: Section) -> None:
        environment = self.run.environment
        if not environment:
            section.say("There is no env.json yet.", missing=True)
            return
        versions = environment.get("versions", {})
        facts = {key: value for key, value in environment.items() if key not in ("versions", "command")}
        facts["command"] = _command_line(environment)
        section.blocks.append(pairs_html("Machine", facts))
        section.blocks.append(pairs_html("Versions", versions))


def _command_line(environment: dict[str, Any]) -> str:
    """Return the words after the program's path."""
    return shlex.join(["mgap", *map(str, environment.get("command", [])[1:])])


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    return f"{value:g}" if isinstance(value, float) else str(value)

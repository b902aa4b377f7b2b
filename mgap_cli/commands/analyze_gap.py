"""`mgap analyze-gap`: each sample's modality gap, and the mixture that splits balanced from imbalanced."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mgap_cli import config as configuration
from mgap_cli.commands import _options as options
from mgap_cli.errors import UsageError
from mgap_cli.output import Output
from mgap_cli.workflow.gap_views import Exported, Request

if TYPE_CHECKING:
    from mgap_cli.config import Config

DEFAULT_SPLIT = "train"
WHO = "Which samples"
MIXTURE = "Mixture"


def _who(help: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=WHO, **more)


@options.with_settings(
    {
        "truth": options.setting(
            "analysis.truth",
            str,
            "Column that says which samples are degraded; shows whether the analysis finds them.",
            panel=WHO,
            metavar="COLUMN",
        ),
        "gap_kind": options.setting(
            "gap.kind",
            configuration.GapKind,
            "Mixture over |gap| or signed gaps.",
            panel=MIXTURE,
            show_default="the checkpoint's",
        ),
        "components": options.setting(
            "gap.components",
            int,
            "Components of the mixture.",
            panel=MIXTURE,
            show_default="the checkpoint's",
        ),
        "gap_scores": options.setting(
            "gap.scores",
            configuration.GapScores,
            "Training split: a pass of the network, or linear heads that did not see the sample.",
            panel=MIXTURE,
            show_default="the checkpoint's",
        ),
    },
    options.DEVICE,
)
def analyze_gap(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            help="A checkpoint (.pt), a run folder (the checkpoint of its last finished stage), or any "
            "model's scores (.csv, .npz, .parquet). With several checkpoints: which samples moved.",
            show_default=False,
        ),
    ],
    given: options.Given,
    history: Annotated[
        bool, typer.Option("--history", help="For a run folder: show its mixtures over the adaptive epochs.")
    ] = False,
    split: Annotated[
        str | None,
        typer.Option(help="Split to analyse: train, val or test.", show_default="train; for scores, all"),
    ] = None,
    modalities: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME...",
            help="Modalities of a file of scores to compare, in this order.",
            show_default="all in the file",
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=0, help="Samples to list, most imbalanced first.")] = 20,
    plot: Annotated[
        bool, typer.Option("--plot", help="Draw the gaps: as a PNG file, and as text at a terminal.")
    ] = False,
    csv: Annotated[
        Path | None,
        typer.Option(
            help="File for the table of all samples.",
            show_default="gap-<checkpoint>.csv beside it; none for a file of scores",
        ),
    ] = None,
    output: options.OutputFolder = None,
    store: options.StoreOption = None,
    by: Annotated[
        list[str] | None,
        _who(
            "Also show the share of imbalanced samples by this column; repeatable.",
            metavar="COLUMN",
            show_default=False,
        ),
    ] = None,
    where: Annotated[
        list[str] | None,
        _who(
            "Show and export only these samples; the mixture is still that of all. Repeatable.",
            metavar="COLUMN=VALUE",
            show_default=False,
        ),
    ] = None,
    export: Annotated[
        Path | None, _who("Write the list of balanced samples, for adapt --only.", show_default=False)
    ] = None,
    exported: Annotated[Exported, _who("Which samples --export writes.")] = "balanced",
    relabel: Annotated[
        Path | None,
        _who(
            "Write the samples that may be labelled wrongly: all unimodal heads agree on another class, each "
            "with a confidence of at least analysis.relabel_confidence.",
            show_default=False,
        ),
    ] = None,
    human: Annotated[
        Path | None,
        _who(
            "CREMA-D's tabulatedVotes.csv: compare with the gaps of human listeners. The first modality "
            "counts as the voice, the second as the face.",
            show_default=False,
        ),
    ] = None,
    measures: Annotated[
        bool,
        typer.Option(
            "--measures",
            help="Also show other measures of imbalance. For a checkpoint: about six passes over the split, "
            "one with gradients (analysis.gradient_batches), and two over train; for scores, no pass.",
        ),
    ] = False,
    held_out: Annotated[
        bool,
        typer.Option(
            "--held-out",
            help="For a checkpoint: show why a modality lags (late, memorised or uninformative), by training "
            "against held-out samples.",
        ),
    ] = False,
    unimodal: Annotated[
        list[str] | None,
        typer.Option(
            help="With --measures: a checkpoint of one modality alone, for the probe gap; repeatable.",
            metavar="MODALITY=CKPT",
            show_default=False,
        ),
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure each sample's modality gap and split balanced from imbalanced ones.

    For warmup.pt it writes gap-warmup.csv, gap-warmup.json and, with --plot, gap-warmup.png beside it. The
    tables also show the other splits: once both branches memorise the training split, its gaps shrink and
    those of held-out splits do not. A file of scores has one row per sample: id, label, p_audio and
    p_visual, the probabilities of the true class; or p_audio_0, p_audio_1 ... of all classes, or
    logits_audio_0 ...
    """
    from mgap_cli.gap.score_files import is_scores
    from mgap_cli.workflow import movement
    from mgap_cli.workflow.gap_analysis import analyse_checkpoint, analyse_scores

    sink = Output(json, quiet)
    paired = unimodal or []
    read = [path for path in (*inputs, human, given.file) if path is not None]
    request = Request(
        *(top, plot, csv, by or [], where or [], export, exported, human),
        *(relabel, measures, paired, read, output, held_out),
    )
    first = inputs[0]

    def resolved_over(base: Config) -> Config:
        return given.over(base)

    if paired and not measures:
        raise UsageError("--unimodal needs --measures: give both.")
    if measures and (history or len(inputs) > 1):
        raise UsageError("--measures needs one checkpoint or one file of scores.")
    if held_out and (history or len(inputs) > 1 or (is_scores(first) and not first.is_dir())):
        raise UsageError("--held-out takes one checkpoint or run folder, whose network scores the store.")
    if history:
        if len(inputs) > 1:
            raise UsageError("--history can show only one run folder.")
        movement.history(first, plot=plot, sink=sink, output=output)
        return
    if any(is_scores(path) and not path.is_dir() for path in inputs):
        if paired:
            raise UsageError("--unimodal is for checkpoints: a file of scores has no encoders to probe.")
        if len(inputs) > 1 or history or store or "runtime.device" in given.settings:
            raise UsageError(f"{first}: a file of scores is analysed without a store or device.")
        analyse_scores(first, modalities, split, resolved_over(configuration.Config()), request, sink)
        return
    if modalities:
        raise UsageError("--modalities is for files of scores: a checkpoint has audio and visual.")
    from mgap_cli.runs.checkpoint import load_checkpoint
    from mgap_cli.runs.run_checkpoints import checkpoint_in, without_working_files

    checkpoints = without_working_files([checkpoint_in(path, sink) for path in inputs], sink)
    resolved = resolved_over(load_checkpoint(checkpoints[0]).config)
    chosen = split or DEFAULT_SPLIT
    if len(checkpoints) > 1:
        movement.movement(
            checkpoints,
            split=chosen,
            store=store,
            config=resolved,
            top=top,
            plot=plot,
            csv=csv,
            inputs=read,
            output=output,
            sink=sink,
        )
        return
    analyse_checkpoint(checkpoints[0], chosen, store, resolved, request, sink)

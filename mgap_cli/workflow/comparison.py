"""`mgap compare`: plan the cells, run the missing ones, and read the results of all cells."""

from __future__ import annotations

import signal
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgap_cli.comparison.cell_result import CellResult, read_result
from mgap_cli.comparison.plan import (
    DEFAULT_SEEDS,
    TRIAL_SEED,
    Cell,
    Request,
    Trial,
    parse_methods,
    read_request,
)
from mgap_cli.comparison.process_pool import ProcessPool, Worker, workers
from mgap_cli.comparison.slurm_jobs import AtWork, JobStates, job_states, record_of
from mgap_cli.comparison.tuning import tuning_space, with_values
from mgap_cli.cores import usable_cores
from mgap_cli.errors import ExitCode, UnfitError, UsageError
from mgap_cli.files import MALFORMED, damaged, read_json, write_json
from mgap_cli.output import Output, counted
from mgap_cli.runs.lock import is_locked, run_lock
from mgap_cli.workflow.cell import CellJob, run_cell
from mgap_cli.workflow.tuning import run_trials, with_chosen_values

if TYPE_CHECKING:
    from mgap_cli.config import Config

PLAN = "plan.json"
_SCHEMA = "mgap.compare-plan/1"
_PRELOADED = (
    "mgap_cli.workflow.cell",
    "mgap_cli.workflow.stages",
    "mgap_cli.report.documents",
    "mgap_cli.evaluation.evaluate",
)
_NOT_DECIDING = ("runtime", "analysis", "evaluate")  # settings that may change between two command lines


@dataclass(frozen=True)
class Comparison:
    """A planned comparison.

    stores: the path of each store, by name. fingerprints: of the stores. settings: by STORE/METHOD, before
    any tuning. trials: their number for each method on each store. spaces: the search spaces, as plain
    values, by STORE/METHOD and setting.
    """

    stores: Mapping[str, str]
    fingerprints: Mapping[str, str]
    methods: Mapping[str, str]  # the method's name on the command line, by label
    seeds: tuple[int, ...]
    settings: Mapping[str, Mapping[str, Any]]
    trials: int = 0
    spaces: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)

    def cells(self) -> list[Cell]:
        return [
            Cell(store, method, seed)
            for seed in self.seeds
            for store in self.stores
            for method in self.methods
        ]

    def every_trial(self) -> list[Trial]:
        """Return the trials: the first of each method on each store, then the second, and so on."""
        return [
            Trial(store, method, TRIAL_SEED, number)
            for number in range(self.trials)
            for store in self.stores
            for method in self.methods
        ]

    def epochs(self) -> dict[str, int]:
        """Return the epochs of one cell, by store: the same budget for every method."""
        return {
            store: int(self.settings[f"{store}/{next(iter(self.methods))}"]["train"]["epochs"])
            for store in self.stores
        }

    @property
    def device(self) -> str:
        """The device of all cells, as in the settings."""
        return str(next(iter(self.settings.values()))["runtime"]["device"])

    @property
    def threads(self) -> str:
        """The CPU threads of all cells, as in the settings: `auto`, or a number."""
        return str(next(iter(self.settings.values()))["runtime"]["threads"])

    def unfinished(self, results: Path, retry_failed: bool = False) -> list[CellJob]:
        """Return the jobs of cells without a result, and with `retry_failed` also those of failed cells."""
        recorded = {cell: read_result(cell, results) for cell in self.cells()}
        return [
            self.job(cell, results.resolve())
            for cell, result in recorded.items()
            if result is None or (result.state == "failed" and retry_failed)
        ]

    def job(self, cell: Cell, results: Path, values: Mapping[str, Any] | None = None) -> CellJob:
        """Return the job of a cell, or of a trial with its `values` by key."""
        tree = with_values(
            self.settings[f"{cell.store}/{cell.method}"], {**(values or {}), "train.seed": cell.seed}
        )
        return CellJob(cell, Path(self.stores[cell.store]), self.methods[cell.method], tree, results)


def requested(
    stores: Sequence[Path],
    methods: str | None,
    seeds: int | None,
    plan: Path | None,
    trials: int | None = None,
) -> Request:
    """Return the plan of the command line and of the YAML file `plan`; the command line has precedence."""
    planned = read_request(plan) if plan else None
    chosen = parse_methods(methods) if methods else planned.methods if planned else ()
    counted = tuple(range(seeds)) if seeds else planned.seeds if planned else tuple(range(DEFAULT_SEEDS))
    settings = planned.settings if planned else {}
    tried = trials if trials is not None else planned.trials if planned else 0
    return Request(tuple(stores) or (planned.stores if planned else ()), chosen, counted, settings, tried)


def plan_comparison(request: Request, over: Callable[[Config], Config]) -> Comparison:
    """Resolve the settings of every store and method.

    over: applies the settings of the command line to other settings. Raises UsageError for an unknown method
    or setting, and for settings with which a method cannot train on a store. Raises UnfitError for a folder
    that is not a store or has no test samples. Raises one of them if a method cannot be tuned.
    """
    from mgap_cli import config as configuration
    from mgap_cli.data.store import open_store
    from mgap_cli.methods import load_method
    from mgap_cli.plugins import absolute_spec, is_plugin

    classes = {method.label: load_method(method.name) for method in request.methods}
    fingerprints, settings, spaces = {}, {}, {}
    for path, name in request.store_names().items():
        store = open_store(path)
        if not (store.splits == "test").any():
            raise UnfitError(f"{path}: it has no test samples.", "Prepare the data with a test split.")
        fingerprints[name] = store.fingerprint
        base = over(configuration.from_dict(request.settings, "plan", configuration.preset(store.preset)))
        for method in request.methods:
            chosen = classes[method.label]
            method_settings = {f"{chosen.name}.{key}": value for key, value in method.settings}
            resolved = base.updated(method_settings, f"method {method.label}").with_methods([chosen.name])
            chosen.recipe(resolved, [modality.name for modality in store.modalities])
            settings[f"{name}/{method.label}"] = resolved.to_dict()
            if request.trials:
                space = tuning_space(method.name, resolved, method_settings, store)
                spaces[f"{name}/{method.label}"] = {key: search.to_dict() for key, search in space.items()}
    stores = {name: str(path.resolve()) for path, name in request.store_names().items()}
    methods = {
        method.label: absolute_spec(method.name) if is_plugin(method.name) else method.name
        for method in request.methods
    }
    return Comparison(stores, fingerprints, methods, request.seeds, settings, request.trials, spaces)


def execute_comparison(
    comparison: Comparison,
    results: Path,
    sink: Output,
    *,
    jobs: int | None = None,
    per_gpu: int = 1,
    retry_failed: bool = False,
) -> None:
    """Run every cell that is not finished. A cell that has failed is run again only with `retry_failed`.

    Raises UsageError if the folder has cells with other settings or is not a results folder. Raises MgapError
    if another comparison runs there, and with exit code 75 if a signal stops this one.
    """
    require_results_folder(results)
    with run_lock(results, sink):
        keep_plan(comparison, results, sink)
        at_work = cell_workers(comparison.device, comparison.threads, jobs, per_gpu)
        if comparison.trials:
            run_trials(comparison, results, lambda jobs: run_cells(jobs, at_work, sink), sink, retry_failed)
            comparison = with_chosen_values(comparison, results)
        unfinished = comparison.unfinished(results, retry_failed)
        finished = len(comparison.cells()) - len(unfinished)
        waiting = without_those_at_work(unfinished, job_states(results), results, sink)
        if not waiting:
            return
        sink.log(
            f"compare: {counted(len(waiting), 'cell')} to run, {finished} already finished; {len(at_work)} "
            f"at a time, CPU threads of each: {at_work[0].threads}"
        )
        run_cells(waiting, at_work, sink)


def run_cells(jobs: Sequence[CellJob], at_work: Sequence[Worker], sink: Output) -> None:
    """Run cells or trials, each in its own process; each worker has one at a time.

    If a cell fails, its record states the reason. Raises StoppedBySignal if a signal stops this process.
    """
    pool: ProcessPool[CellJob] = ProcessPool(run_cell, lambda job: job.log, at_work, _PRELOADED)
    for ended in pool.run(jobs, sink):
        cell, results = ended.job.cell, ended.job.results
        result = read_result(cell, results)
        if ended.code == ExitCode.PREEMPTED:
            sink.warn(f"{cell} was stopped by a signal; the same command continues it.")
        elif ended.code != 0 or result is None:
            result = CellResult(cell, "failed", error=_reason(ended.code, ended.job.log))
            result.write(results)
            sink.warn(f"{cell} failed: {result.error}")
        else:
            sink.log(f"done: {cell}, {result.seconds:.1f} s of training")


def without_those_at_work(
    jobs: Sequence[CellJob], states: JobStates, results: Path, sink: Output
) -> list[CellJob]:
    """Return the cells that are neither queued nor running in Slurm, and log the number of the others.

    states: the states of the Slurm jobs.
    """
    left = [job for job in jobs if job.cell not in states.at_work and not is_locked(job.cell.folder(results))]
    if len(left) < len(jobs):
        sink.log(f"compare: already queued or running: {counted(len(jobs) - len(left), 'cell')}")
        if not states.asked:
            sink.warn(
                f"squeue does not answer, so every cell in {record_of(results)} counts as queued. If those "
                "jobs have ended, delete that file."
            )
    return left


def open_comparison(results: Path) -> Comparison:
    """Read the plan of a results folder. Raises UnfitError if there is none, or if it is damaged."""
    document = read_json(results / PLAN)
    if document is None:
        raise UnfitError(
            f"{results}: not the results of a comparison (no {PLAN}).", "Run `mgap compare STORE -o RESULTS`."
        )
    try:
        if document.pop("schema") != _SCHEMA:
            raise ValueError("another version of mgap wrote it")
        document["seeds"] = tuple(document["seeds"])
        return Comparison(**document)
    except MALFORMED as error:
        raise damaged(results / PLAN, error) from error


def read_results(comparison: Comparison, results: Path) -> dict[Cell, CellResult | None]:
    """Return every cell of the plan with its result, or None if it has none yet."""
    return {cell: read_result(cell, results) for cell in comparison.cells()}


def read_trials(comparison: Comparison, results: Path) -> dict[Cell, CellResult | None]:
    """Return every trial of the plan with its result, or None if it has none yet."""
    return {trial: read_result(trial, results) for trial in comparison.every_trial()}


def cells_at_work(comparison: Comparison, results: Path) -> dict[Cell, AtWork]:
    """Return the cells and trials that a process is writing, and the cells in active Slurm jobs."""
    every = (*comparison.every_trial(), *comparison.cells())
    locked: dict[Cell, AtWork] = {cell: "running" for cell in every if is_locked(cell.folder(results))}
    return {**job_states(results).at_work, **locked}


def is_results_folder(path: Path) -> bool:
    """Return whether a folder has the plan of a comparison."""
    return (path / PLAN).is_file()


def require_results_folder(results: Path) -> None:
    """Raise UsageError for a folder that has other files and no plan of a comparison."""
    if not results.exists() or is_results_folder(results):
        return
    names = sorted(p.name for p in results.iterdir()) if results.is_dir() else ["it is a file"]
    visible = [name for name in names if not name.startswith(".")]
    if visible:
        raise UsageError(
            f"{results}: not the results of a comparison (it has {visible[0]}).",
            "Choose a folder that is new or empty with -o.",
        )


def keep_plan(comparison: Comparison, results: Path, sink: Output) -> None:
    """Write the plan. Raises UsageError if the folder has cells that depend on other settings.

    A setting that is missing in the folder's plan is newer than the plan. Its value there counts as the
    default, and a warning names it.
    """
    new_keys: dict[str, Any] = {}
    if is_results_folder(results):
        before = open_comparison(results)
        if before.trials != comparison.trials:
            raise UsageError(
                f"{results}: each of its methods is tuned by {before.trials} trials; this command asks for "
                f"{comparison.trials}.",
                f"Choose another folder with -o, or give --tune {before.trials}."
                if before.trials
                else "Choose another folder with -o.",
            )
        for key in before.settings.keys() & comparison.settings.keys():
            store = key.partition("/")[0]
            old, new = (deciding_settings(tree.settings[key]) for tree in (before, comparison))
            if added := new.keys() - old.keys():
                defaults = _defaults(comparison.methods[key.partition("/")[2]], added)
                new_keys |= defaults
                old |= defaults
            differing = [k for k in {**old, **new} if old.get(k) != new.get(k)]
            if before.fingerprints[store] != comparison.fingerprints[store]:
                raise UsageError(
                    f"{results}: its cells of {store} were trained on another store.",
                    "Choose another folder with -o.",
                )
            if before.spaces.get(key) != comparison.spaces.get(key):
                raise UsageError(
                    f"{results}: the trials of {key} have another search space than this command.",
                    "Choose another folder with -o.",
                )
            if differing:
                first = differing[0]
                raise UsageError(
                    f"{results}: its cells have {first}={old.get(first)!r}; this command asks for "
                    f"{new.get(first)!r}.",
                    "Choose another folder with -o.",
                )
    if new_keys:
        named = ", ".join(f"{key}={value}" for key, value in sorted(new_keys.items()))
        sink.warn(
            f"{results}: an earlier version of mgap planned its cells, without {named}. Finished cells are "
            "kept; to train all cells with one version, choose another folder with -o."
        )
    write_json(results / PLAN, {"schema": _SCHEMA, **asdict(comparison)})


def _defaults(method: str, keys: Collection[str]) -> dict[str, Any]:
    """Return the default values of some settings, for a comparison of this method."""
    from mgap_cli.config import Config
    from mgap_cli.methods import load_method

    defaults = deciding_settings(Config().with_methods([load_method(method).name]).to_dict())
    return {key: defaults[key] for key in keys if key in defaults}


def deciding_settings(tree: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the settings on which a result depends, by key, without the seed; lists as in JSON."""
    return {
        f"{section}.{key}": list(value) if isinstance(value, tuple) else value
        for section, keys in tree.items()
        for key, value in keys.items()
        if section not in _NOT_DECIDING and (section, key) != ("train", "seed")
    }


def cell_workers(device: str, threads: str, jobs: int | None, per_gpu: int) -> list[Worker]:
    """Return the device and threads of each process. device, threads: as in the section `runtime`."""
    import torch

    gpus = torch.cuda.device_count() if device in ("auto", "cuda") else 0
    at_work = workers(device, jobs, per_gpu, gpus, usable_cores())
    return at_work if threads == "auto" else [replace(worker, threads=int(threads)) for worker in at_work]


def _reason(code: int, log: Path) -> str:
    """Return why the process of a cell ended: the last error in its log, or the signal that killed it."""
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    with suppress(OSError):
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        if errors:
            return errors[-1]
    return f"exit code {code}; see {log}"

"""Read scores that any program wrote: CSV, NPZ or Parquet.

One row per sample: `id`, `label`, and for each modality one of

    p_<modality>            probability of the true class
    p_<modality>_<class>    probability of each class (in NPZ one array (N, C), p_<modality>)
    logits_<modality>_<class>      logit of each class (in NPZ one array (N, C), logits_<modality>)

Parquet may hold the latter two as one column of lists as well. All other columns describe the samples.
Scores of `fused` give the fused head's loss and, if they cover all classes, its predictions.

CSV is UTF-8 (a byte order mark is ignored) with commas; a line ends with LF, CR LF or CR, empty lines are
skipped, and a quoted field may hold commas, doubled quotes and line breaks. Ids and labels are taken exactly
as they are, spaces included; they are not empty and have no line break or NUL character.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from mgap_cli.errors import MgapError, UnfitError, UsageError, reason_of
from mgap_cli.files import require_regular_file
from mgap_cli.gap.scores import FUSED, Scores

SUFFIXES = (".csv", ".npz", ".parquet")


def is_scores(path: Path) -> bool:
    """Return whether a path is named like a file of scores."""
    return path.suffix.lower() in SUFFIXES


def read_scores(path: Path, modalities: Sequence[str] = (), columns: Collection[str] | None = None) -> Scores:
    """Read a file of scores; `columns` are the other columns to keep, all by default.

    Without `modalities`, the modalities are taken from the column names, in their order; a number at the end
    of a name is a class. Raises UsageError if there is no such regular file and for fewer than two
    modalities; UnfitError for a file that is damaged or lacks a column, and for invalid scores, as `Scores`
    does. Every message names the file.
    """
    from mgap_cli.gap.npz import read_npz
    from mgap_cli.gap.tabular import read_csv, read_parquet

    require_regular_file(path, "a file of scores")
    suffix = path.suffix.lower()
    reader = {".csv": read_csv, ".npz": read_npz, ".parquet": read_parquet}[suffix]
    _check_modalities(modalities)
    try:
        return reader(path, modalities, columns)
    except MgapError as error:
        raise type(error)(f"{path}: {error.message}", error.hint) from error
    except Exception as error:  # the libraries do not document what they raise for a damaged file
        file_format = {".csv": "CSV", ".npz": "NPZ", ".parquet": "Parquet"}[suffix]
        what = (
            "it needs more memory than is available" if isinstance(error, MemoryError) else reason_of(error)
        )
        raise UnfitError(f"{path}: cannot be read as {file_format} ({what}).") from error


def _check_modalities(names: Sequence[str]) -> None:
    for name in names:
        if not name or name == FUSED or list(names).count(name) > 1:
            fault = "is named twice" if name and name != FUSED else "is not a modality"
            raise UsageError(
                f"--modalities {','.join(names)}: {name!r} {fault}.",
                "Name two or more different modalities, such as --modalities audio,visual.",
            )

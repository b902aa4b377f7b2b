"""Turn the frames of a prepared store into sequences, so that an encoder sees their order.

    python tests/benchmarks/mouth.py data/grid-mouth grid-mouth.npz
    mgap prepare features grid-mouth.npz --modalities audio,visual -o data/grid-sequences

Per clip, the mean frame is subtracted, so that lighting and the face at rest count for nothing; the rest is
projected on its principal components, fitted on the training frames without labels: `visual` (N, T, K).
`audio` (N, L, F) is the spectrogram, one step per column. `--label COLUMN` takes the labels from another
column of clips.csv.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from mgap_cli.data.store import open_store

COMPONENTS = 20
EVERY = 3  # of the training frames, for the fit


def main() -> None:
    from sklearn.decomposition import PCA

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("store", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--label", default="label")
    options = parser.parse_args()

    store = open_store(options.store)
    grey = store.frames.astype(np.float32).mean(axis=-1)
    grey = grey.reshape(*grey.shape[:2], -1)
    grey -= grey.mean(axis=1, keepdims=True)
    training = grey[store.splits == "train"].reshape(-1, grey.shape[-1])[::EVERY]
    components = PCA(COMPONENTS, random_state=0).fit(training)
    visual = components.transform(grey.reshape(-1, grey.shape[-1])).reshape(*grey.shape[:2], -1)
    np.savez(
        options.file,
        audio=store.audio.swapaxes(1, 2),
        visual=visual.astype(np.float32),
        label=np.array(store.columns[options.label]),
        split=store.splits,
        id=np.array(store.ids),
    )


if __name__ == "__main__":
    main()

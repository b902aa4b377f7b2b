"""Seeded, stratified splits that depend only on the clips' ids, not on their order."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from mgap_cli.data.clips import Clip


def stratified_choice(strata: Mapping[str, str], share: float, seed: int) -> set[str]:
    """Choose the share `share` of the keys of `{key: stratum}`, as evenly as possible over the strata.

    The total is round(share x n). Each stratum gets the whole part of its share; the strata with the largest
    remainders get one more.
    """
    members: dict[str, list[str]] = defaultdict(list)
    for key in sorted(strata):
        members[strata[key]].append(key)
    quotas = {name: share * len(keys) for name, keys in members.items()}
    counts = {name: int(quota) for name, quota in quotas.items()}
    missing = round(share * len(strata)) - sum(counts.values())
    for name in sorted(quotas, key=lambda n: (counts[n] - quotas[n], n))[: max(0, missing)]:
        counts[name] += 1
    rng = np.random.default_rng(seed)
    chosen: set[str] = set()
    for name in sorted(members):
        order = rng.permutation(len(members[name]))[: counts[name]]
        chosen.update(members[name][i] for i in order)
    return chosen


def carve_validation(
    clips: Sequence[Clip], share: float, seed: int, *, groups: Mapping[str, str] | None = None
) -> list[Clip]:
    """Move `share` of the training clips to `val`, unless there is a validation split already.

    The choice is stratified by label. With `groups`, {group: stratum}, whole groups move, so that no group is
    in both splits.
    """
    if share == 0 or any(clip.split == "val" for clip in clips):
        return list(clips)
    train = [clip for clip in clips if clip.split == "train"]
    if groups is None:
        chosen = stratified_choice({clip.id: clip.label for clip in train}, share, seed)
    else:
        moved = stratified_choice({clip.group: groups[clip.group] for clip in train}, share, seed)
        chosen = {clip.id for clip in train if clip.group in moved}
    return [dataclasses.replace(clip, split="val") if clip.id in chosen else clip for clip in clips]

"""The protocol of a fusion, which joins one feature vector (or the logits) per modality into fused logits.

To add a fusion, write one file here with a subclass of `Fusion` whose `name` is the file's name (with `-`
for `_`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from mgap_cli.errors import UsageError

Features = Mapping[str, Tensor]


class Fusion(nn.Module):
    """Base class of every fusion: features {modality: (B, D_m)} to fused logits (B, C).

    name: as on the command line. additive: the fused logits are a sum with one part per modality, which
    `contributions` returns. pair_only: the fusion joins exactly two modalities. late: it joins the logits (B,
    C) of the unimodal heads, not features, so its loss trains the heads, too. pools: it takes both, as
    `forward(features, logits)`.
    """

    name: ClassVar[str] = ""
    additive: ClassVar[bool] = False
    pair_only: ClassVar[bool] = False
    late: ClassVar[bool] = False
    pools: ClassVar[bool] = False

    def __init__(self, sizes: Mapping[str, int], classes: int) -> None:
        """Build the fusion for features of these sizes, {modality: D_m}, in the order of the modalities.

        Raises UsageError if the fusion joins two modalities and there are more.
        """
        super().__init__()
        self.modalities = tuple(sizes)
        if self.pair_only and len(sizes) != 2:
            raise UsageError(
                f"--fusion {self.name} joins two modalities, and this store has {len(sizes)}.",
                "Use --fusion concat or sum.",
            )

    def contributions(self, features: Features) -> dict[str, Tensor]:
        """Return each modality's part (B, C); their sum is the fused logits. Only for additive fusions."""
        raise NotImplementedError

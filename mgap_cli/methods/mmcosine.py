"""Joint training of cosine logits: features and class weights of every modality have length 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mgap_cli.config import positive
from mgap_cli.methods.joint import Joint
from mgap_cli.model.fusions.cosine import Cosine

if TYPE_CHECKING:
    from mgap_cli.config import Config
    from mgap_cli.model.network import MultimodalNetwork

PAPER = "Xu et al., ICASSP 2023"


@dataclass(frozen=True)
class Settings:
    """scale: s, the factor of the cosines; the default is that of the authors' program."""

    scale: float = positive(10.0)


class MMCosine(Joint):
    """The multimodal cosine loss (MMCosine; Xu et al., ICASSP 2023).

        L = CE(z, y),     z_k = s sum_m cos(f_m, w_m,k),

    where w_m,k are the weights of class k for modality m, without a bias. Each modality therefore adds at
    most s to a logit, even if its features and weights are large. These logits are the fusion `cosine`, which
    the method chooses and which is also the decision rule. The method works with any number of modalities.
    The train loss includes the probes of `joint`.

    The authors' program (GeWu-Lab/MMCosine_ICASSP23, main_CD.py) trains these logits, but its validation
    still reads the fused prediction from the plain linear layer, with bias and without normalisation, and
    keeps the epoch that is best on the test set. The paper also adds the loss to other fusions and methods,
    which is not done here.
    """

    name = "mmcosine"
    Settings = Settings

    @classmethod
    def model(cls, config: Config) -> dict[str, Any]:
        return {"model.fusion": "cosine"}

    def build(self, network: MultimodalNetwork, samples: int) -> None:
        super().build(network, samples)
        assert isinstance(network.fusion, Cosine)
        network.fusion.scale.fill_(self.settings.scale)

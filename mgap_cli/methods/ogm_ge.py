"""OGM with generalisation enhancement: noise is added to the modulated gradients."""

from __future__ import annotations

from dataclasses import dataclass

from mgap_cli.methods import ogm

PAPER = "Peng et al., CVPR 2022"


@dataclass(frozen=True)
class Settings(ogm.Settings):
    """The settings of OGM; the section is `ogm-ge`."""


class OgmGe(ogm.Ogm):
    """OGM, with noise added to every convolution gradient in the window.

    The noise is N(0, s^2) with s the standard deviation of that gradient before it is modulated, plus 1e-8.
    Both encoders receive it, also the one that is not slowed down.
    """

    name = "ogm-ge"
    Settings = Settings
    noise = True

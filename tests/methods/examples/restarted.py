"""A method that starts one encoder again in the middle of the training."""

from dataclasses import dataclass

from mgap_cli.methods import joint_heads
from mgap_cli.methods.joint_heads import JointHeads


@dataclass(frozen=True)
class Settings(joint_heads.Settings):
    every: int = 2
    modality: str = "audio"


class Restarted(JointHeads):
    """joint-heads, whose encoder of one modality gets new weights every few epochs."""

    name = "restarted"
    Settings = Settings

    def on_epoch_start(self, context):
        if context.epoch == 0 or context.epoch % self.settings.every:
            return []
        context.reset(context.network.encoders[self.settings.modality])
        return [f"the {self.settings.modality} encoder starts again"]

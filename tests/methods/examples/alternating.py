"""A method that trains one modality after the other, each with its own optimizer, and the fusion last."""

from mgap_cli.methods.base import Method, cross_entropy


class Alternating(Method):
    """Per batch: CE(z_m, y) for each modality m and its encoder; then CE(z, y) for the fusion layer alone."""

    name = "alternating"

    def parameter_groups(self, network):
        branches = {
            m: [*encoder.parameters(), *network.heads[m].parameters()]
            for m, encoder in network.encoders.items()
        }
        return {**branches, "fusion": network.fusion.parameters()}

    def training_step(self, step):
        for modality in step.network.encoders:
            outputs = step.forward(only=[modality])
            step.backward(cross_entropy(outputs.unimodal[modality], step.batch.labels))
            step.update(modality)
        step.backward(cross_entropy(step.forward().fused, step.batch.labels))
        step.update("fusion")

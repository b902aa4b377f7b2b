"""A method that edits one gradient per loss: conflicts are projected away (Yu et al., NeurIPS 2020)."""

from mgap_cli.methods.base import Method, cross_entropy


class GradientSurgery(Method):
    """The sum of all gradients, without the part of a unimodal gradient that conflicts with the fused one."""

    name = "gradient-surgery"

    def training_step(self, step):
        outputs = step.forward()
        fused, *unimodal = step.gradients(
            [cross_entropy(z, step.batch.labels) for z in outputs.logits.values()]
        )
        total = dict(fused)
        for gradients in unimodal:
            for name, gradient in gradients.items():
                if name in fused:
                    product = (gradient * fused[name]).sum()
                    size = fused[name].square().sum().clamp_min(1e-12)
                    gradient = gradient - product.clamp(max=0) / size * fused[name]
                total[name] = total[name] + gradient if name in total else gradient
        step.set_gradients(total)
        step.update()

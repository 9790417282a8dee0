"""The same network from the multi-step modules of SpikingJelly 2.0 (`activation_based`).

SpikingJelly chooses the neurons' implementation by the device: fused CUDA or Triton kernels where
it finds them, an operator with a hand-written backward pass on the CPU.
"""

import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import Tensor, nn

from benchmarks.reference import ALPHA, TAU, THRESHOLD, Parts


def implementation(device: torch.device) -> str:
    """SpikingJelly's name of the neurons' implementation on a device."""
    return str(functional.neuron_implementation("lif", device)["implementation"])


class JellyParts(Parts):
    """SpikingJelly's containers and LIF nodes."""

    def fold(self, *layers: nn.Module) -> nn.Module:
        """Its container for stateless layers."""
        return layer.SeqToANNContainer(*layers)

    def neuron(self, *, last: bool) -> nn.Module:
        """Its LIF node."""
        return JellyLIF(last)


class JellyLIF(nn.Module):
    """SpikingJelly's LIF node with KT's settings, at rest at the start of each call.

    Its potentials are float32, as ours are. It keeps those after reset; those before reset follow
    from them by its own charging step.
    """

    def __init__(self, last: bool) -> None:
        super().__init__()
        self.last = last
        self.node = neuron.LIFNode(
            tau=TAU,
            decay_input=True,
            v_threshold=THRESHOLD,
            v_reset=0.0,
            surrogate_function=surrogate.PiecewiseQuadratic(alpha=ALPHA),  # KT's QGate
            detach_reset=True,
            step_mode="m",
            store_v_seq=last,
        )

    def forward(self, current_TN: Tensor) -> tuple[Tensor, Tensor | None]:
        """Spikes, and for the last layer the potentials before reset."""
        self.node.reset()
        current_TN = current_TN.float()
        spikes_TN = self.node(current_TN)
        if not self.last:
            return spikes_TN, None
        after_TN = self.node.v_seq
        assert after_TN is not None
        before_TN = torch.cat((torch.zeros_like(after_TN[:1]), after_TN[:-1]))
        return spikes_TN, functional.lif_charge(current_TN, before_TN, TAU, True, 0.0)

"""CKD around a SpikingJelly network, two labelled recordings per class.

python examples/ckd_spikingjelly.py
"""

import torch
from ckd_loop import compare
from digits import CLASSES, SIZE
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import Tensor, nn


class Student(nn.Module):
    """Two spiking convolutions from SpikingJelly's multi-step modules."""

    def __init__(self) -> None:
        super().__init__()
        self.last = _lif(store_v_seq=True)
        self.network = nn.Sequential(
            _convolution(2, 32), _lif(), _pool(), _convolution(32, 64), self.last, _pool()
        )
        self.head = layer.SeqToANNContainer(nn.Flatten(), nn.Linear(64 * (SIZE // 4) ** 2, CLASSES))

    def forward(self, x_TBCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Logits_TBC, and the last layer's membrane_TBN before reset."""
        functional.reset_net(self)
        currents: list[Tensor] = []
        hook = self.last.register_forward_pre_hook(lambda _, inputs: currents.append(inputs[0]))
        logits_TBC = self.head(self.network(x_TBCHW))
        hook.remove()
        # v_seq holds the potentials after reset; charging once more gives those before it.
        after_TBCHW = self.last.v_seq
        assert after_TBCHW is not None
        rest_TBCHW = torch.cat((torch.zeros_like(after_TBCHW[:1]), after_TBCHW[:-1]))
        membrane_TBCHW = rest_TBCHW + (currents[0] - rest_TBCHW) / self.last.tau
        return logits_TBC, membrane_TBCHW.flatten(2)


def _convolution(channels_in: int, channels_out: int) -> nn.Module:
    return layer.SeqToANNContainer(
        nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
    )


def _lif(store_v_seq: bool = False) -> neuron.LIFNode:
    return neuron.LIFNode(
        tau=2.0,
        v_threshold=0.5,
        surrogate_function=surrogate.ATan(),
        detach_reset=True,
        step_mode="m",
        store_v_seq=store_v_seq,
    )


def _pool() -> nn.Module:
    return layer.SeqToANNContainer(nn.AvgPool2d(2))


if __name__ == "__main__":
    compare(Student, str(__doc__))

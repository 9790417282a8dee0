"""BatchNorm that tells two streams apart."""

from typing import Literal

from torch import Tensor, nn

Stream = Literal["dvs", "hybrid"]


class StreamBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm over T·B with each stream's own batch statistics.

    Both streams are normalised by the statistics of their own batch in training; only the DVS
    stream's go into the running statistics, which are what evaluation uses.
    """

    stream: Stream = "dvs"

    @property
    def remembers(self) -> bool:
        """Whether this batch's statistics go into the running ones."""
        return self.training and self.stream == "dvs"

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Normalise one stream's frames."""
        if not self.training or self.remembers:
            return super().forward(x_NCHW)
        return nn.functional.batch_norm(
            x_NCHW, None, None, self.weight, self.bias, True, 0.0, self.eps
        )

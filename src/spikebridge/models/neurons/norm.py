"""BatchNorm that tells two streams apart."""

from collections.abc import Callable
from typing import Literal, cast

import torch
from torch import Tensor, nn

Stream = Literal["dvs", "hybrid"]


class StreamBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm over T·B with each stream's own batch statistics.

    Both streams are normalised by the statistics of their own batch in training; only the DVS
    stream's go into the running statistics, which are what evaluation uses.
    """

    stream: Stream = "dvs"
    total: Callable[[Tensor], Tensor] | None = None
    """Sum over the processes that share a batch, with gradient; None normalises each one's share by
    itself."""

    @property
    def together(self) -> bool:
        """Whether this batch is normalised by the statistics of all processes' shares."""
        return self.training and self.total is not None

    @property
    def remembers(self) -> bool:
        """Whether this batch's statistics go into the running ones."""
        return self.training and self.stream == "dvs"

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Normalise one stream's frames."""
        if self.together:
            return self._by_whole_batch(x_NCHW, cast(Callable[[Tensor], Tensor], self.total))
        if not self.training or self.remembers:
            return super().forward(x_NCHW)
        return nn.functional.batch_norm(
            x_NCHW, None, None, self.weight, self.bias, True, 0.0, self.eps
        )

    def _by_whole_batch(self, x_NCHW: Tensor, total: Callable[[Tensor], Tensor]) -> Tensor:
        kind, over = x_NCHW.dtype, (0, 2, 3)
        x_NCHW = x_NCHW.to(torch.promote_types(kind, torch.float32))
        rows = x_NCHW.new_full((1,), x_NCHW.numel() // x_NCHW.shape[1])
        sums = total(torch.cat([x_NCHW.sum(over), rows]))
        mean_C, count = sums[:-1] / sums[-1], sums[-1]
        x_NCHW = x_NCHW - mean_C[:, None, None]
        var_C = total(x_NCHW.square().sum(over)) / count
        if self.remembers:
            self.remember(mean_C.detach(), (var_C * (count / (count - 1).clamp(min=1))).detach())
        scale_C = self.weight * (var_C + self.eps).rsqrt()
        return (x_NCHW * scale_C[:, None, None] + self.bias[:, None, None]).to(kind)

    def remember(self, mean_C: Tensor, unbiased_C: Tensor) -> None:
        """Take a batch's statistics into the running ones, as PyTorch does.

        Without a momentum all batches since the last reset count alike.
        """
        mean, var = cast(Tensor, self.running_mean), cast(Tensor, self.running_var)
        tracked = cast(Tensor, self.num_batches_tracked).add_(1)
        momentum = 1 / tracked.to(mean.dtype) if self.momentum is None else self.momentum
        mean.lerp_(mean_C.to(mean.dtype), momentum)
        var.lerp_(unbiased_C.to(var.dtype), momentum)

"""Apply dropout cheaply on a CPU: one 16-bit random number a value, four in a draw.

torch's CPU dropout draws a float for each value on one thread, which took 7 % of a 2M step.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

_LANES = 4  # 16-bit lanes in a 64-bit draw
_LEVELS = 2**16


class Dropout(nn.Module):
    """Drop values like nn.Dropout, with ``p`` rounded to 1/65536 and the scale of the rounded share."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return x
        if x.device.type != "cpu":
            return functional.dropout(x, self.p)
        return cast(Tensor, _CpuDropout.apply(x, round(self.p * _LEVELS)))  # type: ignore[no-untyped-call]


class _CpuDropout(torch.autograd.Function):
    """Keep the mask for the backward pass (one byte a value), not the input."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dropped_levels: int) -> Tensor:
        keep = keep_mask(x.shape, dropped_levels)
        ctx.save_for_backward(keep)
        ctx.scale = _LEVELS / (_LEVELS - dropped_levels)
        return keep.to(x.dtype).mul_(ctx.scale).mul_(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (keep,) = ctx.saved_tensors
        return keep.to(gradients[0].dtype).mul_(ctx.scale).mul_(gradients[0]), None


def keep_mask(shape: torch.Size, dropped_levels: int) -> Tensor:
    """Draw a bool tensor, False with probability ``dropped_levels`` / 65536, from torch's CPU generator."""
    count = shape.numel()
    draws = torch.empty(-(-count // _LANES), dtype=torch.int64).random_(-(2**63), None)
    lanes = draws.view(torch.int16)[:count]
    return (lanes >= dropped_levels - _LEVELS // 2).view(shape)

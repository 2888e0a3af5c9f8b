"""Define PatchTST for one binary target, whole in this file.

The model is from Nie et al., "A Time Series is Worth 64 Words", ICLR 2023.
The paper's thesis is channel independence; this model mixes channels: one token is one patch of all features, since
they are indicators of one price. Independent channels would be about 30 times dearer here. Shapes below: B windows, T
days of context, C features, N patches, I inputs of a token, D d_model, H heads, F d_ff.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from training.dropout import Dropout
from training.grid import Architecture

# GPT-2's initialisation: small enough that a pre-norm stack starts near the identity at any depth of the grid.
INITIAL_DEVIATION = 0.02
# RevIN's epsilon (Kim et al., ICLR 2022), relative here because features reach from 1e-3 to 1e11.
REVIN_EPSILON = 1e-5
# The deviation as a share of the mean says nothing of a feature whose mean is near zero, such as MACD: it is clipped.
LEAST_SHARE, LARGEST_SHARE = 1e-5, 10.0


class PatchTST(nn.Module):
    """Map windows to logits: (B, T, C) -> (B,). Loss and metrics take logits, so there is no sigmoid.

    With ``revin`` each feature of a window is scaled by itself; ``architecture.scales`` tells the tokens what that
    took away.
    """

    def __init__(self, architecture: Architecture, *, dropout: float = 0.0, revin: bool = True) -> None:
        super().__init__()
        d, n = architecture.d_model, architecture.n_patches
        self.architecture = architecture
        self.revin = revin
        self.checkpoint_activations = False
        self.embedding = nn.Linear(architecture.token_inputs, d)
        self.positions = nn.Parameter(torch.empty(n, d))
        self.dropout = Dropout(dropout)
        self.layers = nn.ModuleList(
            EncoderLayer(d, architecture.n_heads, architecture.d_ff, dropout) for _ in range(architecture.n_layers)
        )
        self.norm = nn.LayerNorm(d)
        self.head = nn.Linear(n * d, 1)
        self._initialise(architecture.n_layers)

    def _initialise(self, n_layers: int) -> None:
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif "norm" not in name:
                # The two projections into the residual stream shrink with depth, else its variance would grow.
                residual = name.endswith(("project.weight", "contract.weight"))
                scale = 1 / math.sqrt(2 * n_layers) if residual else 1.0
                nn.init.normal_(parameter, std=INITIAL_DEVIATION * scale)

    def forward(self, windows: Tensor) -> Tensor:
        tokens = self.embedding(self.inputs(windows)) + self.positions  # (B, N, D)
        tokens = self.dropout(tokens)
        for layer in self.layers:
            if self.checkpoint_activations and self.training:
                tokens = checkpoint(layer, tokens, use_reentrant=False)
            else:
                tokens = layer(tokens)
        # Always in float32: a bf16 logit has 8 bits, too few to rank days.
        with torch.autocast(tokens.device.type, enabled=False):
            logits: Tensor = self.head(self.norm(tokens).float().flatten(1))  # (B, N * D) -> (B, 1)
        return logits.squeeze(-1)

    def inputs(self, windows: Tensor) -> Tensor:
        """Make the tokens' inputs: the normalised patches and, with scales, the log scales: (B, T, C) -> (B, N, I)."""
        patches = self.patches(normalise_window(windows) if self.revin else windows)
        if not self.architecture.scales:
            return patches
        scales = log_scales(windows).unsqueeze(1).expand(-1, self.architecture.n_patches, -1)  # (B, C) -> (B, N, C)
        return torch.cat([patches, scales], dim=2)

    def patches(self, windows: Tensor) -> Tensor:
        """Cut windows into patches aligned with the newest day: (B, T, C) -> (B, N, patch * C)."""
        a = self.architecture
        used = (a.n_patches - 1) * a.stride + a.patch
        return windows[:, a.context - used :].unfold(1, a.patch, a.stride).flatten(2)


class EncoderLayer(nn.Module):
    """Apply a pre-norm layer: x + attention(norm(x)), then x + feed_forward(norm(x)). (B, N, D) -> (B, N, D)."""

    def __init__(self, d_model: int, n_heads: int, d_ff: int, dropout: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.attention_norm = nn.LayerNorm(d_model)
        self.qkv = nn.Linear(d_model, 3 * d_model)
        self.project = nn.Linear(d_model, d_model)
        self.feed_forward_norm = nn.LayerNorm(d_model)
        self.expand = nn.Linear(d_model, d_ff)
        self.contract = nn.Linear(d_ff, d_model)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x)))
        hidden = functional.gelu(self.expand(self.feed_forward_norm(x)))  # (B, N, F)
        return x + cast(Tensor, self.dropout(self.contract(hidden)))

    def attention(self, x: Tensor) -> Tensor:
        b, n, d = x.shape
        qkv = self.qkv(x).view(b, n, 3, self.n_heads, d // self.n_heads).permute(2, 0, 3, 1, 4)  # (3, B, H, N, D / H)
        if qkv.dtype == torch.bfloat16 and qkv.device.type == "cpu":
            mixed = _attend_by_products(qkv)
        else:
            mixed = functional.scaled_dot_product_attention(*qkv.unbind(0))
        return cast(Tensor, self.project(mixed.transpose(1, 2).reshape(b, n, d)))


def _attend_by_products(qkv: Tensor) -> Tensor:
    """Compute attention by two batched products, for bf16 on a CPU: (3, B, H, N, E) -> (B, H, N, E).

    The fused kernel's backward is tenfold slower there (14 ms against 0.9 ms a layer at D 128, H 2). Scores are kept
    transposed: a softmax over rows runs vectorised, one over 15 columns does not, which makes it twice as fast.
    """
    _, b, h, n, e = qkv.shape
    q, k, v = qkv.reshape(3, b * h, n, e).unbind(0)
    transposed = torch.baddbmm(q.new_empty(()), k, q.transpose(1, 2), beta=0, alpha=e**-0.5)  # (B * H, keys, queries)
    weights = torch.softmax(transposed, dim=1).transpose(1, 2)
    return torch.bmm(weights, v).view(b, h, n, e)


def normalise_window(windows: Tensor) -> Tensor:
    """Scale each feature of each window to mean 0, deviation 1 over its days; a flat feature becomes 0.

    This is RevIN without its learned affine part, which the embedding's weights can express. (B, T, C) -> (B, T, C).
    """
    mean = windows.mean(dim=1, keepdim=True)
    centred = windows - mean
    deviation = centred.square().mean(dim=1, keepdim=True).sqrt()
    return centred / (deviation + REVIN_EPSILON * (mean.abs() + REVIN_EPSILON))


def log_scales(windows: Tensor) -> Tensor:
    """Measure each feature's deviation over its window: log of its share of the mean, clipped. (B, T, C) -> (B, C)."""
    size, deviation = windows.mean(dim=1).abs(), windows.std(dim=1, correction=0)
    share = deviation / torch.maximum(size, deviation / LARGEST_SHARE).clamp_min(torch.finfo(windows.dtype).tiny)
    return share.clamp_min(LEAST_SHARE).log()


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Split parameters for AdamW: matrices decay; biases, norms and positions only shift or scale and do not."""
    decayed = [p for name, p in model.named_parameters() if p.ndim >= 2 and name != "positions"]
    spared = [p for name, p in model.named_parameters() if p.ndim < 2 or name == "positions"]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": spared, "weight_decay": 0.0}]

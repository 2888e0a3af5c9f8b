"""Train the sizes of benchmarks/training.py by a plain PyTorch loop, for comparison."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from training.data.windows import MarketWindows, load_windows
from training.grid import Architecture
from training.settings import TrialSettings


class PlainEncoder(nn.Module):
    """The same sizes from torch's own parts: MultiheadAttention, nn.Dropout, float32."""

    def __init__(self, shape: Architecture) -> None:
        super().__init__()
        d = shape.d_model
        self.shape = shape
        self.embed = nn.Linear(shape.patch * shape.num_features, d)
        self.position = nn.Parameter(torch.zeros(shape.n_patches, d))
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "norm1": nn.LayerNorm(d),
                    "attention": nn.MultiheadAttention(d, shape.n_heads, dropout=0.1, batch_first=True),
                    "norm2": nn.LayerNorm(d),
                    "mlp": nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), nn.Dropout(0.1), nn.Linear(4 * d, d)),
                }
            )
            for _ in range(shape.n_layers)
        )
        self.head = nn.Linear(shape.n_patches * d, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = (x - x.mean(1, keepdim=True)) / (x.std(1, keepdim=True) + 1e-5)
        x = self.embed(x.unfold(1, self.shape.patch, self.shape.stride).flatten(2)) + self.position
        for block in self.blocks:
            h = block["norm1"](x)  # type: ignore[index]
            x = x + block["attention"](h, h, h)[0]  # type: ignore[index]
            x = x + block["mlp"](block["norm2"](x))  # type: ignore[index]
        return self.head(x.flatten(1)).squeeze(-1)  # type: ignore[no-any-return]


class PlainDataset(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """The train windows, cut one by one."""

    def __init__(self, windows: MarketWindows, context: int) -> None:
        self.windows, self.context = windows, context

    def __len__(self) -> int:
        return len(self.windows.train)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        last = int(self.windows.train[index])
        return self.windows.days[last - self.context + 1 : last + 1], self.windows.labels[last]


def reference_step(shape: Architecture, settings: TrialSettings) -> Callable[[], object]:
    """Return a function that takes one step of the plain loop."""
    windows = load_windows(settings)
    model = PlainEncoder(shape)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    criterion = nn.BCEWithLogitsLoss()
    loader = DataLoader(
        PlainDataset(windows, shape.context), batch_size=settings.batch_size, shuffle=True, drop_last=True
    )

    def forever() -> Iterator[Any]:
        while True:
            yield from loader

    batches = forever()

    def step() -> float:
        x, y = next(batches)
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return step

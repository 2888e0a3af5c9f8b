"""Daily bars made up for tests, as rows of numbers and as the text of a CSV file."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from datetime import date, timedelta

Bar = tuple[date, float, float, float, float, int]
HEADER = ("Date", "Open", "High", "Low", "Close", "Volume")


def some_bars(count: int = 260, seed: int = 1, step_days: int = 1, price: float = 1500.0) -> list[Bar]:
    """Return bars on days that are no weekend, with prices above 1,000 so that separators of thousands show."""
    chance, day, bars = random.Random(seed), date(2015, 3, 2), []
    for _ in range(count):
        opened = round(price * chance.uniform(0.99, 1.01), 2)
        price = round(opened * chance.uniform(0.99, 1.01), 2)
        high = round(max(opened, price) * chance.uniform(1.001, 1.01), 2)
        low = round(min(opened, price) * chance.uniform(0.99, 0.999), 2)
        bars.append((day, opened, high, low, price, chance.randrange(1_000_000, 9_000_000)))
        day += timedelta(days=step_days)
        while day.weekday() > 4:
            day += timedelta(days=1)
    return bars


def csv_of(
    bars: Iterable[Bar],
    *,
    header: str | None = ",".join(HEADER),
    delimiter: str = ",",
    day: Callable[[date], str] = date.isoformat,
    price: Callable[[float], str] = "{:.2f}".format,
    volume: Callable[[int], str] = str,
    columns: Sequence[int] = range(6),
) -> str:
    """Write bars as CSV; ``columns`` is the order of date, open, high, low, close, volume."""
    lines = [] if header is None else [header]
    for bar in bars:
        cells = [day(bar[0]), *(price(value) for value in bar[1:5]), volume(bar[5])]
        lines.append(delimiter.join(cells[at] for at in columns))
    return "\n".join(lines) + "\n"

"""Give the tests of the page a run that is told into a store, and the page that shows it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from supervisor.page.access import Access
from supervisor.page.figures import Figures
from supervisor.page.reader import StoreReader
from supervisor.page.server import PageServer, listen
from tests.unit.page.stored_run import RUN, FakeLive, StoredRun

TOKEN = "t" * 64
ACCESS = Access(TOKEN, "sweep_test")

Serve = Callable[[], AbstractAsyncContextManager[PageServer]]


@pytest.fixture(scope="session")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoredRun]:
    made = StoredRun(tmp_path_factory.mktemp("told") / "sweep.db", trials=8).tell()
    yield made
    made.close()


@pytest.fixture
def stored(told: StoredRun, tmp_path: Path) -> Iterator[StoredRun]:
    made = told.copied(tmp_path / "sweep.db")
    yield made
    made.close()


@pytest.fixture
def live(stored: StoredRun) -> FakeLive:
    return FakeLive(stored)


@pytest.fixture
def figures(stored: StoredRun, live: FakeLive) -> Iterator[Figures]:
    reader = StoreReader(stored.store.path, RUN)
    yield Figures(reader, RUN, live)
    reader.close()


@pytest.fixture
def serve(stored: StoredRun, figures: Figures) -> Serve:
    """The page on a free port, for as long as the block lasts."""

    @contextlib.asynccontextmanager
    async def serving() -> AsyncIterator[PageServer]:
        server = PageServer(ACCESS, figures, stored.clock, listen(0))
        await server.open()
        try:
            yield server
        finally:
            await server.close()

    return serving

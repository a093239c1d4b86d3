"""Fixtures of the consumer's tests; the programs behind them are in ``support.shelf``."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.shelf import BreakingStore, Shelf


@pytest.fixture
def shelf() -> Shelf:
    """A bucket in memory."""
    return Shelf()


@pytest.fixture
def breaking(shelf: Shelf) -> Callable[..., BreakingStore]:
    """Make a store whose downloads break after the given numbers of bytes."""
    return lambda *lengths: BreakingStore(shelf.store, list(lengths))

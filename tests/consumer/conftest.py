"""Fixtures of the consumer's tests; the programs behind them are in ``support.shelf``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.shelf import BreakingStore, Shelf

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def shelf() -> Shelf:
    """A bucket in memory."""
    return Shelf()


@pytest.fixture
def breaking(shelf: Shelf) -> Callable[..., BreakingStore]:
    """Make a store whose downloads break after the given numbers of bytes."""
    return lambda *lengths: BreakingStore(shelf.store, list(lengths))

"""Small helpers of these tests."""

from __future__ import annotations

import pytest


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries follow each other at once."""
    monkeypatch.setattr("stepout.artifacts.retries.FIRST_PAUSE", 0.01)

"""Fixtures of the workers' tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.workers import Place

if TYPE_CHECKING:
    from support.sfn_strict import StrictStepFunctions

    from stepout.local import LocalAws


@pytest.fixture
def place(local_aws: LocalAws, sfn_strict: StrictStepFunctions) -> Place:
    """A queue on the local AWS, and a strict Step Functions."""
    return Place(local_aws, sfn_strict)

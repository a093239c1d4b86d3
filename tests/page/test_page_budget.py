"""What making a page may cost: counted, and refused before it is spent."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from stepout.page.budget import PageBudget, PageBudgetError
from stepout.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable


def test_what_is_read_is_counted() -> None:
    """Requests, bytes and seconds, beside what is allowed."""
    now = [10.0]
    budget = PageBudget(bytes=100, requests=3, seconds=5, clock=lambda: now[0])
    budget.request("s3://b/k")
    budget.received("s3://b/k", 30)
    now[0] = 12.5
    spent = budget.spent()
    assert (spent.requests, spent.bytes_read, spent.seconds, spent.ran_out) == (1, 30, 2.5, False)
    assert (spent.requests_allowed, spent.bytes_allowed, spent.seconds_allowed) == (3, 100, 5.0)
    assert (budget.bytes_left, budget.requests_left, budget.seconds_left) == (70, 2, 2.5)


def test_what_would_be_too_much_is_refused_before_it_is_read() -> None:
    """One artifact takes no more than half; all of them no more than the whole."""
    budget = PageBudget(bytes=100)
    budget.check(50)
    with pytest.raises(PageBudgetError, match="51 bytes"):
        budget.check(51)
    assert not budget.spent().ran_out, "one large artifact does not mean that the page has spent all"
    budget.received("s3://b/k", 60)
    with pytest.raises(PageBudgetError, match="may read 40 more"):
        budget.check(41)
    assert budget.spent().ran_out


def test_requests_bytes_and_seconds_end() -> None:
    """Whichever comes first; what comes too late is refused as it comes."""
    budget = PageBudget(requests=1)
    budget.request("s3://b/k")
    with pytest.raises(PageBudgetError, match="1 requests"):
        budget.request("s3://b/k")
    with pytest.raises(PageBudgetError, match="1 requests"):
        budget.check(1)
    budget = PageBudget(bytes=10)
    with pytest.raises(PageBudgetError, match="10 bytes"):
        budget.received("s3://b/k", 11)
    now = [0.0]
    budget = PageBudget(seconds=2, clock=lambda: now[0])
    now[0] = 2.0
    too_late: list[Callable[[], None]] = [
        lambda: budget.request("s3://b/k"),
        lambda: budget.received("s3://b/k", 1),
        lambda: budget.check(1),
    ]
    for late in too_late:
        with pytest.raises(PageBudgetError, match="2 seconds") as caught:
            late()
        assert caught.value.sentence.startswith("Not read: the page may take")
    assert budget.spent().ran_out


def test_threads_share_a_budget() -> None:
    """No request too many is granted."""
    budget, granted = PageBudget(requests=50), []

    def ask() -> None:
        for _ in range(20):
            try:
                budget.request("s3://b/k")
            except PageBudgetError:
                return
            granted.append(1)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(granted) == budget.spent().requests == 50


@pytest.mark.parametrize(
    "wrong", [{"bytes": -1}, {"requests": 1.5}, {"seconds": "60"}, {"seconds": float("nan")}, {"bytes": True}]
)
def test_what_is_no_budget_is_refused(wrong: dict[str, object]) -> None:
    """The message names the member."""
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        PageBudget(**wrong)  # type: ignore[arg-type]

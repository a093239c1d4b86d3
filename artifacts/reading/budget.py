"""What one resolve, or one read of a directory, may cost: a document is small, and what it leads to need not be.

An allow-list says where a document may lead, not how often: a manifest of a few bytes can name one object a thousand
times. So what is fetched on a document's word is counted, duplicates too, and refused beyond a budget.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Final

from stepout.schemas.errors import ConfigurationError, ReadBudgetError


@dataclass(frozen=True, kw_only=True)
class ReadBudget:
    """What may be fetched because a document says so, before anybody asks for an artifact's own bytes.

    One ``resolve…`` call has one budget for everything that it follows: manifests, ResultWriter files, references of
    others. Each ``download``, ``verify``, ``files`` and ``dataset`` of a directory artifact has one of its own.

    Attributes:
        requests: Requests that a resolve may send; 1,000 by default.
        entries: Children of a ResultWriter, or files and empty folders of a directory; 500,000 by default, which is
            also what a writer of directories allows.
        bytes: What may be fetched, by the sizes that pointers and manifests name; 10 GiB by default. Without
            a budget, a directory may have no more than the ``max_size`` that was passed.

    Raises:
        ConfigurationError: One of them is no whole number from 1 on.
    """

    requests: int = 1_000
    entries: int = 500_000
    bytes: int = 10 << 30  # what fits the largest disk of a Lambda

    def __post_init__(self) -> None:
        for name, value in (("requests", self.requests), ("entries", self.entries), ("bytes", self.bytes)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigurationError(f"ReadBudget({name}={value!r}): expected a whole number, 1 or more")


USUAL_BUDGET: Final = ReadBudget()
"""What may be spent where nobody passed a budget."""


class Spending:
    """How much of a budget one resolve, or one read of a directory, has spent.

    Args:
        budget: What may be spent.
    """

    def __init__(self, budget: ReadBudget) -> None:
        self._limits = {"requests": budget.requests, "entries": budget.entries, "bytes": budget.bytes}
        self._spent = {"requests": 0, "entries": 0, "bytes": 0}
        self._lock = threading.Lock()  # several files are read at once

    def take(self, url: str, *, requests: int = 0, entries: int = 0, size: int = 0) -> None:
        """Count what is about to be fetched.

        Args:
            url: What leads there, for the message.
            requests: How many will be sent.
            entries: How many children or files there are.
            size: How many bytes will be fetched.

        Raises:
            ReadBudgetError: It is more than is left; nothing of it was fetched.
        """
        for name, more in (("requests", requests), ("entries", entries), ("bytes", size)):
            if not more:
                continue
            with self._lock:
                self._spent[name] += more
                spent = self._spent[name]
            limit = self._limits[name]
            if spent > limit:
                msg = (
                    f"{url} leads to more than this read may cost: {spent:,} {name}, its budget is "
                    f"{limit:,}. Nothing more was fetched. If you trust the document, pass "
                    f"budget=ReadBudget({name}={spent:_}) or more to resolve"
                )
                raise ReadBudgetError(msg)

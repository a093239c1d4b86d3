"""Processes that meet a server's limit of requests, simulated: what rate do they settle at, and who gets how much?

The paces are those of the library, with a simulated clock. Each process has threads that always have a request to send.
The server is a bucket of tokens; what it refuses costs it nothing. A scenario and its seed decide everything.

    python -m benchmarks.throttle_simulation
"""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from stepout.artifacts.process.pace import Pace
from stepout.artifacts.retries import WRITES

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepout.artifacts.process.pace import Admission

__all__ = ["SCENARIOS", "Scenario", "Settled", "main", "simulate"]

_POLL_SECONDS: Final = 0.25


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """Who meets what.

    Attributes:
        limit: Requests a second that the server takes.
        later: The same from the middle of the run on; ``None``: as before.
        burst: Seconds for which unused requests add up; always one request at least.
        latency: Seconds from a request to its answer, give or take a tenth.
        processes: Each with a pace of its own.
        threads: Of each process; each always has a request to send.
        seconds: How long it goes on; the last third is measured.
        seed: For everything that is random.
    """

    limit: float
    later: float | None = None
    burst: float = 1.0
    latency: float = 0.02
    processes: int = 1
    threads: int = 16
    seconds: float = 90.0
    seed: int = 1


@dataclass(frozen=True)
class Settled:
    """What came of it.

    Attributes:
        share: Requests that the server took, of those that it could have taken, in the last third.
        whole: The same in the whole run.
        refused: The share of requests that it refused, in the last third.
        failed: Requests that were refused when the time for which they are repeated was over.
        slowest: Seconds that a request waited and was repeated at most, before it was taken.
        least: The share of the process that got least, of an equal one, in the last third.
        most: The same of the one that got most.
        free: How many processes keep no pace at the end.
    """

    share: float
    whole: float
    refused: float
    failed: int
    slowest: float
    least: float
    most: float
    free: int


@dataclass
class _Process:
    pace: Pace
    taken: int = 0
    late: int = 0


@dataclass(order=True)
class _Event:
    at: float
    number: int
    act: Callable[[], None] = field(compare=False)


class _Run:
    """One run; its clock stands still while Python computes."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.now = 0.0
        self._random = random.Random(scenario.seed)  # noqa: S311 - no secret
        self.processes = [
            _Process(Pace(clock=lambda: self.now, chance=self._random.random)) for _ in range(scenario.processes)
        ]
        self._events: list[_Event] = []
        self._number = 0
        self._tokens, self._filled_at = scenario.limit * scenario.burst, 0.0
        self.refused = self.late_refused = self.failed = 0
        self.slowest = 0.0

    def go(self) -> None:
        """Run it."""
        for process in self.processes:
            for _ in range(self.scenario.threads):
                self._after(self._random.random(), lambda p=process: self._begin(p, self.now))
        while self._events and self._events[0].at <= self.scenario.seconds:
            event = heapq.heappop(self._events)
            self.now = event.at
            event.act()

    @property
    def late(self) -> bool:
        """Whether it is measured now."""
        return self.now >= self.scenario.seconds * 2 / 3

    def limit_at(self, now: float) -> float:
        """Return requests a second that the server takes."""
        later = self.scenario.later
        return self.scenario.limit if later is None or now < self.scenario.seconds / 2 else later

    def _after(self, seconds: float, act: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._events, _Event(self.now + seconds, self._number, act))

    def _begin(self, process: _Process, began: float) -> None:
        if process.pace.engaged:
            self._wait(process, began, process.pace.queue())
        else:
            self._send(process, began, None)

    def _wait(self, process: _Process, began: float, place: float) -> None:
        seconds = process.pace.due(place)
        if seconds <= 0 or self.now - began >= WRITES.seconds:
            self._send(process, began, process.pace.leave())
        else:
            self._after(min(seconds, _POLL_SECONDS) + 1e-9, lambda: self._wait(process, began, place))

    def _send(self, process: _Process, began: float, admission: Admission | None) -> None:
        def arrive() -> None:
            taken = self._takes()
            self._after(self._way(), lambda: self._answer(process, began, admission, taken=taken))

        self._after(self._way(), arrive)

    def _way(self) -> float:
        return self.scenario.latency / 2 * (0.9 + 0.2 * self._random.random())

    def _takes(self) -> bool:
        limit = self.limit_at(self.now)
        most = max(limit * self.scenario.burst, 1.0)
        self._tokens = min(self._tokens + (self.now - self._filled_at) * limit, most)
        self._filled_at = self.now
        taken = self._tokens >= 1
        self._tokens -= taken
        return taken

    def _answer(self, process: _Process, began: float, admission: Admission | None, *, taken: bool) -> None:
        if taken:
            if admission is not None:
                process.pace.succeeded(admission)
            process.taken += 1
            process.late += self.late
            self.slowest = max(self.slowest, self.now - began)
            began = self.now
        else:
            process.pace.refused(admission)
            self.refused += 1
            self.late_refused += self.late
            if self.now - began > WRITES.seconds:
                self.failed += 1
                began = self.now
        self._begin(process, began)


def simulate(scenario: Scenario) -> Settled:
    """Return what comes of a scenario."""
    run = _Run(scenario)
    run.go()
    third = scenario.seconds / 3
    late = [process.late for process in run.processes]
    equal = max(sum(late) / len(late), 1e-9)
    could = (run.limit_at(0) + run.limit_at(scenario.seconds)) / 2 * scenario.seconds
    return Settled(
        share=sum(late) / (run.limit_at(scenario.seconds) * third),
        whole=sum(process.taken for process in run.processes) / could,
        refused=run.late_refused / max(run.late_refused + sum(late), 1),
        failed=run.failed,
        slowest=run.slowest,
        least=min(late) / equal,
        most=max(late) / equal,
        free=sum(not process.pace.engaged for process in run.processes),
    )


SCENARIOS: Final = {
    "one process, 5 a second, 1 ms": Scenario(limit=5, latency=0.001),
    "one process, 5 a second, 100 ms": Scenario(limit=5, latency=0.1),
    "one process, 50 a second, 1 ms": Scenario(limit=50, latency=0.001),
    "one process, 50 a second, 100 ms": Scenario(limit=50, latency=0.1),
    "one process, 500 a second, 1 ms": Scenario(limit=500, latency=0.001),
    "one process, 500 a second, 20 ms": Scenario(limit=500, latency=0.02),
    "one process, 3,500 a second, 1 ms": Scenario(limit=3_500, latency=0.001, seconds=60),
    "one process, 500 a second, counted in tenths": Scenario(limit=500, burst=0.1),
    "one process, 700 and then 70 a second": Scenario(limit=700, later=70, seconds=60),
    "one process, 70 and then 700 a second": Scenario(limit=70, later=700),
    "64 processes, 100 a second": Scenario(limit=100, processes=64, seconds=300),
    "64 processes, 500 a second": Scenario(limit=500, processes=64, seconds=180),
    "64 processes, 3,500 a second": Scenario(limit=3_500, processes=64, seconds=60),
    "64 processes, 3,500 a second, counted in tenths": Scenario(limit=3_500, burst=0.1, processes=64, seconds=60),
}


def main() -> None:
    """Print a table of all scenarios."""
    heads = ("who", "taken, of the limit", "in the whole run", "refused", "failed", "slowest request, s")
    print(f"| {' | '.join(heads)} | least and most, of an equal share |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, scenario in SCENARIOS.items():
        found = simulate(scenario)
        shares = f"{found.least:.2f} to {found.most:.2f}" if scenario.processes > 1 else "-"
        print(
            f"| {name} | {found.share:.2f} | {found.whole:.2f} | {100 * found.refused:.2g} % | {found.failed} | "
            f"{found.slowest:.2g} | {shares} |",
            flush=True,
        )


if __name__ == "__main__":
    main()

"""A simulation of a run on AWS: requests, dollars, seconds, and the limit that is hit first.

It is a function of a scenario and nothing else. Children flow as amounts, not one by one, in some thousand steps of
time, so that ten million of them take no longer than a thousand. Buckets of tokens fill and empty; what a limit holds
back waits, and holds what it occupies meanwhile. The seed decides how long children work, and when S3 splits a prefix.
"""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Final

from benchmarks.service_limits import EVENTS_OF_A_CHILD, LIMITS, PRICES, REPARTITION
from stepout.artifacts.listing import FILES_LIMIT
from stepout.artifacts.transfer.plan import TransferSettings, part_size_for
from stepout.artifacts.transfer.worker_pool import CONNECTIONS
from stepout.callbacks.lifecycle.heartbeat import beats_a_second, interval_of

__all__ = ["Directory", "DirectoryRun", "MapRun", "MapScenario", "inline_limits", "simulate", "simulate_directory"]

TRANSITIONS: Final = 2
"""Of a child execution with one Task state: into it and out of it. How AWS counts them was not verified."""

_STEPS: Final = 3_000
_SAMPLES: Final = 400


@dataclass(frozen=True, kw_only=True)
class MapScenario:
    """A Distributed Map whose children are containers with a task token.

    Attributes:
        children: How many.
        fargate: Whether Fargate launches each; else workers are there already.
        work_seconds: How long a child works, on the average.
        artifacts: How many artifacts each writes, besides its commit record.
        artifact_bytes: The size of each.
        output_bytes: The size of each child's output.
        heartbeat_seconds: ``HeartbeatSeconds`` of the state.
        spread: Whether ``STEPOUT_MAX_CONCURRENCY`` says how many beat at the same time.
        seed: Of chance.
    """

    children: int
    fargate: bool = True
    work_seconds: float = 60
    artifacts: int = 1
    artifact_bytes: int = 1 << 20
    output_bytes: int = 1_800
    heartbeat_seconds: float = 60
    spread: bool = True
    seed: int = 12

    @property
    def writes(self) -> int:
        """S3 writes of one child, its record included."""
        return self.artifacts * _writes_of(self.artifact_bytes) + 1


@dataclass(frozen=True, kw_only=True)
class MapRun:
    """What a run comes to.

    Attributes:
        seconds: Until the last child has reported.
        writes: S3 writes.
        reads: S3 reads of who gathers all children and reads every artifact once.
        beats: Heartbeats.
        transitions: State transitions.
        dollars: Of S3 and Step Functions.
        compute: Dollars of containers of 1 vCPU and 2 GB.
        late: Heartbeats beyond the quota, as a share of all; S3 and Step Functions answer them with a throttling error.
        reached: Limits that held something back, and for how many seconds.
        peaks: The most of each limit's unit that was wanted.
        partitions: Into how many S3 has split the prefix in the end.
    """

    seconds: float
    writes: int
    reads: int
    beats: int
    transitions: int
    dollars: float
    compute: float
    late: float
    reached: dict[str, float]
    peaks: dict[str, float]
    partitions: int

    @property
    def first(self) -> str | None:
        """The limit that fewer children reach than any other of those that were reached."""
        order = [name for name in LIMITS if name in self.reached]
        return order[0] if order else None

    @property
    def longest(self) -> str | None:
        """The limit that held back for the longest time."""
        return max(self.reached, key=lambda name: self.reached[name], default=None)


@dataclass
class _Bucket:
    """A quota as a bucket of tokens, for steps of ``step`` seconds."""

    rate: float
    burst: float
    tokens: float = field(init=False)

    def __post_init__(self) -> None:
        self.tokens = self.burst

    def there(self, step: float) -> float:
        """Return how many may be taken in this step."""
        return self.tokens + self.rate * step

    def take(self, wanted: float, step: float) -> float:
        """Take up to ``wanted``, and go on to the next step."""
        taken = min(wanted, self.there(step))
        self.tokens = min(self.there(step) - taken, self.burst)
        return taken


def _bucket(name: str) -> _Bucket:
    return _Bucket(LIMITS[name].value, LIMITS[name].burst)


def _writes_of(size: int) -> int:
    """Requests for one artifact: one, or its parts, their beginning and their end, and the list of its blocks."""
    single = TransferSettings().ladder[0]
    return 1 if size <= single else math.ceil(size / part_size_for(size, TransferSettings())) + 3


def _durations(scenario: MapScenario, chance: random.Random, step: float) -> dict[int, float]:
    """Return the share of children that end so many steps after they began."""
    spread = 0.3
    mean = math.log(scenario.work_seconds) - spread * spread / 2
    found = Counter(max(round(chance.lognormvariate(mean, spread) / step), 0) for _ in range(_SAMPLES))
    return {number: count / _SAMPLES for number, count in found.items()}


def _least_seconds(scenario: MapScenario) -> float:
    """Return a time that the run does not fall below by much: what the steps are cut by."""
    limits = [LIMITS["Distributed Map, Standard children begun"].value]
    limits.append(LIMITS["Distributed Map, children at once"].value / scenario.work_seconds)
    limits.append(LIMITS["S3 writes of a prefix"].value * 8 / scenario.writes)
    if scenario.fargate:
        limits.append(LIMITS["Fargate launches"].value)
    return scenario.work_seconds * 2 + scenario.children / min(limits)


def mean_interval(scenario: MapScenario, most: float) -> float:
    """Return the seconds between two beats of a container on the average, where at most ``most`` run at once."""
    longest = interval_of(scenario.heartbeat_seconds, max(1, round(most)) if scenario.spread else None)
    return 1 / beats_a_second(1, longest)


def simulate(scenario: MapScenario) -> MapRun:
    """Run it."""
    chance = random.Random(scenario.seed)  # noqa: S311 - a simulation
    shortest, longest = scenario.work_seconds / 60, min(scenario.work_seconds / 4, 60)
    step = max(shortest, min(_least_seconds(scenario) / _STEPS, longest))
    ends = _durations(scenario, chance, step)
    flow = _Flow(scenario, step, chance)
    coming = [0.0] * (max(ends) + 1)
    at = 0
    while flow.left > 0.5 or flow.active > 0.5:
        begun = flow.begin()
        for offset, share in ends.items():
            coming[(at + offset) % len(coming)] += begun * share
        flow.end(coming[at % len(coming)])
        coming[at % len(coming)] = 0.0
        at += 1
    return _result(scenario, flow, at * step)


class _Flow:
    """Children on their way: to begin, at work, writing, reporting."""

    def __init__(self, scenario: MapScenario, step: float, chance: random.Random) -> None:
        self._scenario, self._step, self._chance = scenario, step, chance
        self.left = float(scenario.children)
        self.active = 0.0
        self.beats = self.late = 0.0
        self.reached: defaultdict[str, float] = defaultdict(float)
        self.peaks: defaultdict[str, float] = defaultdict(float)
        self.partitions = 1
        self._over = 0.0
        self._split = chance.uniform(*REPARTITION)
        self._writing = self._reporting = 0.0
        launches = ["Distributed Map, Standard children begun", *(["Fargate launches"] if scenario.fargate else [])]
        self._launches = [(name, _bucket(name)) for name in launches]
        self._reports, self._beating = _bucket("SendTaskSuccess"), _bucket("SendTaskHeartbeat")
        most = min(scenario.children, LIMITS["Distributed Map, children at once"].value)
        self._interval = mean_interval(scenario, most)

    def begin(self) -> float:
        """Begin as many children as all limits let."""
        at_once = "Distributed Map, children at once"
        free = max(LIMITS[at_once].value - self.active, 0.0)
        lets = {at_once: free, **{name: bucket.there(self._step) for name, bucket in self._launches}}
        tightest = min(lets, key=lambda name: lets[name])
        begun = self._held(tightest, self.left, min(self.left, lets[tightest]))
        for _, bucket in self._launches:
            bucket.take(begun, self._step)
        self.left -= begun
        self.active += begun
        self._peak(at_once, self.active)
        return begun

    def end(self, worked: float) -> None:
        """Have children that have worked write and report, as far as the limits let; meanwhile they beat on."""
        writes = self._scenario.writes
        self._writing += worked * writes
        name = "S3 writes of a prefix"
        self._peak(name, worked * writes / self._step)
        written = self._held(name, self._writing, min(self._writing, LIMITS[name].value * self.partitions * self._step))
        self._writing -= written
        self._over = self._over + self._step if self._writing > 1 else 0.0
        if self._over >= self._split:
            self.partitions, self._over, self._split = self.partitions * 2, 0.0, self._chance.uniform(*REPARTITION)
        self._reporting += written / writes
        self._peak("SendTaskSuccess", self._reporting / self._step)
        reported = self._reports.take(self._reporting, self._step)
        self._held("SendTaskSuccess", self._reporting, reported)
        self._reporting -= reported
        beats = self.active * self._step / self._interval
        self._peak("SendTaskHeartbeat", beats / self._step)
        sent = self._held("SendTaskHeartbeat", beats, self._beating.take(beats, self._step))
        self.beats += sent
        self.late += beats - sent
        self.active -= reported

    def _held(self, name: str, wanted: float, got: float) -> float:
        if wanted - got > 1e-6 * max(wanted, 1):
            self.reached[name] += self._step
        return max(got, 0.0)

    def _peak(self, name: str, value: float) -> None:
        self.peaks[name] = max(self.peaks[name], value)


def _result(scenario: MapScenario, flow: _Flow, seconds: float) -> MapRun:
    writes = scenario.children * scenario.writes
    artifacts = scenario.children * scenario.artifacts
    files = math.ceil(scenario.children / 100_000)  # of the ResultWriter; what it puts into one was seen, not promised
    reads = artifacts + 2 * (files + 1)  # HEAD and GET of each, and of the manifest
    transitions = scenario.children * TRANSITIONS + 2
    dollars = PRICES["S3 PUT"].of(writes) + PRICES["S3 GET"].of(reads) + PRICES["state transition"].of(transitions)
    worked = scenario.children * max(scenario.work_seconds, 60)  # Fargate bills a minute at least
    return MapRun(
        seconds=seconds,
        writes=writes,
        reads=reads,
        beats=round(flow.beats),
        transitions=transitions,
        dollars=dollars,
        compute=PRICES["Fargate vCPU"].of(worked) + PRICES["Fargate GB"].of(2 * worked),
        late=flow.late / max(flow.late + flow.beats, 1),
        reached=dict(flow.reached),
        peaks=dict(flow.peaks),
        partitions=flow.partitions,
    )


def inline_limits(scenario: MapScenario) -> dict[str, int]:
    """Return how many children an inline Map carries before each of its limits is hit."""
    return {
        "inline Map, children at once": int(LIMITS["inline Map, children at once"].value),
        "payload of a state": int(LIMITS["payload of a state"].value // scenario.output_bytes),
        "history of an execution": int(LIMITS["history of an execution"].value // EVENTS_OF_A_CHILD),
    }


# One process ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Directory:
    """Small files that one process puts as a directory, and another gets.

    Attributes:
        files: How many.
        latency: Seconds of one request.
        cpu: Seconds of CPU of one file, of one core: measured, see the page.
        connections: Requests in flight at once.
    """

    files: int
    latency: float = 0.02
    cpu: float = 0.0005
    connections: int = CONNECTIONS


@dataclass(frozen=True, kw_only=True)
class DirectoryRun:
    """What it comes to: requests, dollars, seconds each way, and the limit that is hit first."""

    writes: int
    reads: int
    dollars: float
    seconds: float
    first: str | None


def simulate_directory(directory: Directory) -> DirectoryRun:
    """Put and get it."""
    a_second = min(directory.connections / directory.latency, 1 / directory.cpu)
    seconds = directory.latency + directory.files / a_second
    pieces = math.ceil(directory.files / FILES_LIMIT)
    writes, reads = directory.files + pieces, directory.files + 2 * pieces
    first = None
    if directory.files > FILES_LIMIT:
        first = f"files of one directory ({FILES_LIMIT:,})"
    elif directory.files > directory.connections:
        first = "connections" if directory.connections / directory.latency <= 1 / directory.cpu else "one core"
    return DirectoryRun(
        writes=writes,
        reads=reads,
        dollars=PRICES["S3 PUT"].of(writes) + PRICES["S3 GET"].of(reads),
        seconds=seconds,
        first=first,
    )

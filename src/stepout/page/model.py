"""What a page shows of a run: plain values, whatever they were collected from, for the templates to render.

Nothing here reads or writes. Text may come from anybody: only the templates' escaping makes it fit for a page.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

Verified = Literal["whole", "part", "not"]
"""How much of an artifact was read and compared with its pointer."""


@dataclass(frozen=True, kw_only=True)
class RunPage:
    """One page: an execution if one was asked for, what its tasks have put out, and what making the page has cost.

    Attributes:
        title: What the page is of, for the heading.
        source: What was asked for, as the user said it.
        made_at: When the page was made, UTC.
        execution: The execution; ``None`` for a page of documents alone.
        outputs: The output documents, in the order of the states that reported them.
        children: The children of a Map; ``None`` where there is no Map.
        notes: What could not be found out, and what to do about it: sentences.
        spent: What was read to make the page.
    """

    title: str
    source: str
    made_at: datetime
    execution: ExecutionRun | None = None
    outputs: tuple[OutputCard, ...] = ()
    children: ChildGrid | None = None
    notes: tuple[str, ...] = ()
    spent: Spent


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What making the page has read, and how much it was allowed to."""

    requests: int
    bytes_read: int
    seconds: float
    requests_allowed: int
    bytes_allowed: int
    seconds_allowed: float
    ran_out: bool = False


@dataclass(frozen=True, kw_only=True)
class ExecutionRun:
    """One execution of a state machine.

    Attributes:
        status: As Step Functions says it: ``"RUNNING"``, ``"SUCCEEDED"``, ``"FAILED"``, …; ``"UNKNOWN"`` if it may not
            be asked and stands in events that were not read.
        ended_at: ``None`` while it runs.
        redriven_at: When it was redriven, each time.
        stood: From when to when it had ended until it was redriven, each time.
        visits: The visits of its states, in the order of being entered.
        events: How many events of its history were read.
        more_events: Whether there are events that were not read.
    """

    arn: str
    name: str
    state_machine: str
    status: str
    started_at: datetime
    ended_at: datetime | None
    error: str = ""
    cause: str = ""
    redriven_at: tuple[datetime, ...] = ()
    stood: tuple[tuple[datetime, datetime], ...] = ()
    visits: tuple[StateVisit, ...] = ()
    events: int = 0
    more_events: bool = False


@dataclass(frozen=True, kw_only=True)
class StateVisit:
    """One visit of a state: a loop, or a Map's iterations, visit one state many times.

    Attributes:
        visit_id: Names the visit within its page: ``"v12"``.
        kind: The state's type: ``"Task"``, ``"Map"``, ``"Choice"``, …
        iteration: The index in an inline Map; ``None`` elsewhere.
        inside: The visit of the Map or the Parallel that it is in; ``None`` outside of them.
        status: ``"SUCCEEDED"``, ``"FAILED"``, ``"CAUGHT"`` (failed, and a Catch led on), ``"RUNNING"``, ``"ABORTED"``;
            ``"UNKNOWN"`` if what became of it stands in events that were not read.
        stopped_as: Of one that was aborted: the state whose failure stopped it, where that is why.
        attempts: Of a Task, each try; of other kinds, a failure of the state itself, if its history tells one.
        output_id: The output document that it reported, in ``RunPage.outputs``.
        given: The artifacts that its input names: ``ArtifactCard.artifact_id``.
    """

    visit_id: str
    name: str
    kind: str
    entered_at: datetime
    exited_at: datetime | None
    status: str
    iteration: int | None = None
    inside: str | None = None
    stopped_as: str = ""
    attempts: tuple[StateAttempt, ...] = ()
    output_id: str | None = None
    given: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class StateAttempt:
    """One try of a Task.

    Attributes:
        number: From 0.
        resource: What was called: ``"ecs:runTask.waitForTaskToken"``.
        scheduled_at: When Step Functions began.
        working_at: When the work began, as far as anybody says it; before it, the attempt waited for capacity.
        working_said_by: Who says so: ``"the container"``, ``"ECS"``, ``"its first artifact"``; empty if nobody does.
        ended_at: ``None`` while it runs.
        outcome: ``"SUCCEEDED"``, ``"FAILED"``, ``"TIMED_OUT"``, ``"RUNNING"``, ``"ABORTED"``.
        error: The error's name, if it failed.
        cause: The cause, for people: the ``message`` of a cause that is stepout's JSON, else the text.
        details: More of the cause that is worth unfolding, such as a traceback; may be empty.
        heartbeats: How many were sent, where the document says so.
        redriven: Whether a redrive, and no Retry, led from the try before to this one.
    """

    number: int
    resource: str
    scheduled_at: datetime
    working_at: datetime | None = None
    working_said_by: str = ""
    ended_at: datetime | None = None
    outcome: str = "RUNNING"
    error: str = ""
    cause: str = ""
    details: str = ""
    heartbeats: int | None = None
    redriven: bool = False


@dataclass(frozen=True, kw_only=True)
class OutputCard:
    """One output document.

    Attributes:
        output_id: Names the card within its page: ``"o3"``.
        label: Where it comes from: a state's name, a file's name, a child's index.
        visit_id: The visit that reported it, if the page has an execution.
        result: The inline result as indented JSON; empty if there is none.
        problem: Why the document itself could not be read.
        outcome: What a task in pull mode has told instead of a document; ``None`` if there is one.
    """

    output_id: str
    label: str
    visit_id: str | None = None
    producer: Mapping[str, str] | None = None
    artifacts: tuple[ArtifactCard, ...] = ()
    result: str = ""
    problem: CardProblem | None = None
    outcome: PulledOutcome | None = None


@dataclass(frozen=True, kw_only=True)
class PulledOutcome:
    """What a task in pull mode has told that has put out no document.

    Attributes:
        status: ``"FAILED"``; ``"RUNNING"``: it has told how far it is; ``"NOTHING"``: it has told nothing yet.
        error: Of a failure: its name.
        cause: Of a failure, for people.
        details: More of the cause that is worth unfolding, such as a traceback; may be empty.
        progress: How far it was when it told that last: ``"9 of 60 (15%): tile 9"``; empty if it never did.
        told_at: When that was, by the clock of the task's machine.
        note: What else there is to know; may be empty.
    """

    status: Literal["FAILED", "RUNNING", "NOTHING"]
    error: str = ""
    cause: str = ""
    details: str = ""
    progress: str = ""
    told_at: datetime | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class CardProblem:
    """Why something could not be read: the error's name, as ``"Stepout.ArtifactNotFound"``, and what to do."""

    error: str
    message: str


@dataclass(frozen=True, kw_only=True)
class ArtifactCard:
    """One artifact: what its pointer says, and what was found inside.

    Attributes:
        artifact_id: Names the card within its page: ``"a7"``.
        url: ``s3://BUCKET/KEY``.
        size: Bytes.
        given_to: The visits whose input names it, in order.
        verified: How much was read and compared.
        verified_note: What that means here: a sentence.
        inside: What it holds; ``None`` if it was not read, and ``problem`` or ``verified_note`` says why.
    """

    artifact_id: str
    name: str
    url: str
    size: int
    media_type: str
    checksum: Mapping[str, str]
    version_id: str = ""
    created_at: datetime | None = None
    expires_at: datetime | None = None
    annotations: str = ""
    given_to: tuple[str, ...] = ()
    verified: Verified = "not"
    verified_note: str = ""
    inside: ImageInside | TableInside | TextInside | TreeInside | None = None
    problem: CardProblem | None = None


@dataclass(frozen=True, kw_only=True)
class ImageInside:
    """A picture: its size in pixels, and a thumbnail as PNG."""

    width: int
    height: int
    format: str
    frames: int
    thumbnail: bytes
    thumbnail_width: int
    thumbnail_height: int


@dataclass(frozen=True, kw_only=True)
class ColumnSummary:
    """One column of a table.

    Attributes:
        nulls: Of the whole table, from statistics; ``None`` if these do not say.
        minimum: Of the whole table, as text; ``None`` if the statistics do not say, or say it of a type without order.
        maximum: As ``minimum``.
        histogram: Counts of equal intervals from the least to the greatest value of the rows that were read.
        nan: How many values of the rows that were read are NaN: no nulls, and in no interval.
        infinite: As ``nan``, of infinities.
        values_read: Whether there are values of it in ``head`` and ``tail``; if not, its cells say ``"not read"``.
    """

    name: str
    type: str
    nulls: int | None = None
    minimum: str | None = None
    maximum: str | None = None
    histogram: tuple[int, ...] = ()
    nan: int = 0
    infinite: int = 0
    values_read: bool = True


@dataclass(frozen=True, kw_only=True)
class TableInside:
    """A table: schema, statistics, first and last rows.

    Attributes:
        rows: Of the whole table.
        columns: The first ones, as many as a page can show.
        total_columns: All of them.
        head: The first rows of ``columns``, as text; ``None`` in a cell is a null.
        tail: The last rows, where they were read and are not in ``head``.
        histogram_rows: How many rows the histograms are of.
        files: How many files a dataset has; 1 for a table in one file.
    """

    rows: int
    columns: tuple[ColumnSummary, ...]
    total_columns: int
    head: tuple[tuple[str | None, ...], ...] = ()
    tail: tuple[tuple[str | None, ...], ...] = ()
    histogram_rows: int = 0
    files: int = 1


@dataclass(frozen=True, kw_only=True)
class TextInside:
    """The beginning of a text, or JSON indented; ``cut`` says that there is more."""

    text: str
    language: Literal["text", "json"]
    cut: bool = False


@dataclass(frozen=True, kw_only=True)
class TreeEntry:
    """One line of a directory's tree: a file, or a folder with what is below it, whose name ends in a slash."""

    name: str
    size: int
    files: int = 1
    entries: tuple[TreeEntry, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TreeInside:
    """The files of a directory; ``cut`` says that there are more than the tree shows."""

    files: int
    size: int
    entries: tuple[TreeEntry, ...]
    cut: bool = False


@dataclass(frozen=True, kw_only=True)
class ChildGrid:
    """The children of a Map.

    Attributes:
        total: How many there are, as far as is known.
        cells: Each child that was read, in the order of its index.
        cut: Whether there are more than the cells.
    """

    total: int
    cells: tuple[ChildCell, ...]
    cut: bool = False


@dataclass(frozen=True, kw_only=True)
class ChildCell:
    """One child: its index, how it ended, and its error if it failed."""

    index: int
    status: str
    name: str = ""
    error: str = ""
    cause: str = ""
    seconds: float | None = None
    artifacts: int = 0

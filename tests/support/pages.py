"""Pages to render: a rich one, a failed one, a hostile one, a huge one, and one of documents alone."""

from __future__ import annotations

import io
import math
from datetime import UTC, datetime, timedelta

from stepout.page.model import (
    ArtifactCard,
    CardProblem,
    ChildCell,
    ChildGrid,
    ColumnSummary,
    ExecutionRun,
    ImageInside,
    OutputCard,
    RunPage,
    Spent,
    StateAttempt,
    StateVisit,
    TableInside,
    TextInside,
    TreeEntry,
    TreeInside,
)

__all__ = ["HOSTILE", "documents_page", "failed_page", "hostile_page", "huge_page", "rich_page", "running_page"]

BEGAN = datetime(2026, 11, 29, 8, 30, 3, tzinfo=UTC)
HOSTILE = (
    "</script></style></title><script>document.title='ran'</script>\"'><img src=x onerror=document.title='ran'>"
    "<svg onload=document.title='ran'></svg>{{ 7*7 }}\u202egnp.exe\x1b[31m\x00\u200b&amp;<iframe src=//evil.example>"
)


def _at(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


def _spent(*, ran_out: bool = False) -> Spent:
    return Spent(
        requests=23,
        bytes_read=3_181_254,
        seconds=2.41,
        requests_allowed=500,
        bytes_allowed=64 << 20,
        seconds_allowed=60.0,
        ran_out=ran_out,
    )


def thumbnail(width: int = 240, height: int = 160) -> bytes:
    """A picture of waves, as PNG."""
    from PIL import Image

    image = Image.new("RGB", (width, height))
    image.putdata(
        [
            (
                int(90 + 80 * math.sin(x / 17)),
                int(120 + 70 * math.sin((x + 2 * y) / 23)),
                int(150 + 60 * math.cos(y / 13)),
            )
            for y in range(height)
            for x in range(width)
        ]
    )
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _bell(width: int, middle: float, spread: float) -> tuple[int, ...]:
    return tuple(int(4_000 * math.exp(-(((i - middle) / spread) ** 2))) for i in range(width))


def _table() -> TableInside:
    columns = (
        ColumnSummary(name="flight", type="int32", nulls=0, minimum="1", maximum="8500", histogram=_bell(24, 4, 9)),
        ColumnSummary(name="carrier", type="string", nulls=0, minimum="9E", maximum="YV"),
        ColumnSummary(
            name="dep_delay", type="double", nulls=8_255, minimum="-43.0", maximum="1301.0", histogram=_bell(24, 3, 3)
        ),
        ColumnSummary(name="distance", type="int64", nulls=0, minimum="17", maximum="4983", histogram=_bell(24, 9, 5)),
        ColumnSummary(
            name="time_hour",
            type="timestamp[us, tz=UTC]",
            nulls=0,
            minimum="2013-01-01 10:00:00",
            maximum="2014-01-01 04:00:00",
            histogram=(30, 31, 29, 30, 32, 31, 30, 29, 30, 31, 28, 30),
        ),
    )
    head = tuple(
        (
            str(1545 + n),
            ("UA", "AA", "B6")[n % 3],
            None if n == 3 else f"{n * 2.5:.1f}",
            str(1400 + n * 16),
            f"2013-01-01 1{n}:00:00",
        )
        for n in range(5)
    )
    return TableInside(
        rows=336_776, columns=columns, total_columns=5, head=head, tail=head[::-1][:3], histogram_rows=65_536
    )


def _card(artifact_id: str, name: str, media_type: str, size: int, **more: object) -> ArtifactCard:
    values: dict[str, object] = {
        "artifact_id": artifact_id,
        "name": name,
        "url": f"s3://results-bucket/runs/Nightly/7f3c/Compute/0-9d41c2ab/{name}",
        "size": size,
        "media_type": media_type,
        "checksum": {
            "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "crc64nvme": "AAAAAAAAAAA=",
        },
        "version_id": "3sL4kqtJlcpXroDTDmJ+rmSpXd3dIbrHY",
        "created_at": _at(9),
        "verified": "whole",
        "verified_note": "All bytes were read and hashed: size and SHA-256 are those of the pointer.",
        **more,
    }
    return ArtifactCard(**values)  # type: ignore[arg-type]


def _first_cards() -> tuple[ArtifactCard, ...]:
    picture = ImageInside(
        width=1280,
        height=853,
        format="PNG",
        frames=1,
        thumbnail=thumbnail(),
        thumbnail_width=240,
        thumbnail_height=160,
    )
    return (
        _card("a1", "contours", "image/png", 482_113, inside=picture, given_to=("v3",)),
        _card(
            "a2",
            "flights",
            "application/vnd.apache.parquet",
            2_914_882,
            inside=_table(),
            given_to=("v2", "v3", "v5"),
            verified="part",
            verified_note="The footer and one row group of five were read and compared.",
            annotations='{\n  "parquet": {"rows": 336776}\n}',
        ),
        _card(
            "a3",
            "settings",
            "application/json",
            214,
            inside=TextInside(text='{\n  "level": 3,\n  "names": ["a", "b"],\n  "smooth": true\n}', language="json"),
            expires_at=_at(86_400 * 7),
        ),
    )


def _tree() -> TreeInside:
    months = tuple(TreeEntry(name=f"part-{n}.parquet", size=120_000 + n) for n in range(3))
    folders = tuple(TreeEntry(name=f"month={n}/", size=360_003, files=3, entries=months) for n in range(1, 5))
    return TreeInside(files=13, size=1_440_100, entries=(*folders, TreeEntry(name="README.txt", size=88)))


def _rich_tries() -> tuple[StateAttempt, ...]:
    resource = "ecs:runTask.waitForTaskToken"
    return (
        StateAttempt(
            number=0,
            resource=resource,
            scheduled_at=_at(0.2),
            working_at=_at(31.0),
            working_said_by="ECS",
            ended_at=_at(44),
            outcome="FAILED",
            error="Demo.SensorBusy",
            cause="the sensor at station 4 did not answer within 10 s",
            details='Traceback (most recent call last):\n  File "job.py", line 12, in <module>\nSensorBusy: station 4',
        ),
        StateAttempt(
            number=1,
            resource=resource,
            scheduled_at=_at(52),
            working_at=_at(66.5),
            working_said_by="the container",
            ended_at=_at(124),
            outcome="SUCCEEDED",
            heartbeats=6,
        ),
    )


def _rich_visits() -> tuple[StateVisit, ...]:
    look = StateAttempt(
        number=0, resource="aws-sdk:s3:headObject", scheduled_at=_at(124.2), ended_at=_at(124.6), outcome="SUCCEEDED"
    )
    read = StateAttempt(
        number=0,
        resource="lambda:invoke",
        scheduled_at=_at(124.8),
        working_at=_at(126.1),
        working_said_by="its first artifact",
        ended_at=_at(131),
        outcome="SUCCEEDED",
    )
    return (
        StateVisit(
            visit_id="v1", name="Compute", kind="Task", entered_at=_at(0.1), exited_at=_at(124), status="SUCCEEDED",
            attempts=_rich_tries(), output_id="o1",
        ),
        StateVisit(
            visit_id="v2", name="LookAtFile", kind="Task", entered_at=_at(124.1), exited_at=_at(124.7),
            status="SUCCEEDED", attempts=(look,), given=("a2",),
        ),
        StateVisit(
            visit_id="v3", name="ReadFiles", kind="Task", entered_at=_at(124.7), exited_at=_at(131),
            status="SUCCEEDED", attempts=(read,), given=("a1", "a2"), output_id="o2",
        ),
        StateVisit(
            visit_id="v4", name="Enough?", kind="Choice", entered_at=_at(131), exited_at=_at(131.1), status="SUCCEEDED"
        ),
        StateVisit(
            visit_id="v5", name="Publish", kind="Task", entered_at=_at(131.1), exited_at=_at(133), status="SUCCEEDED",
            attempts=(
                StateAttempt(
                    number=0, resource="lambda:invoke", scheduled_at=_at(131.2), working_at=_at(131.4),
                    working_said_by="Step Functions", ended_at=_at(132.9), outcome="SUCCEEDED",
                ),
            ),
            given=("a2", "a4"),
        ),
    )  # fmt: skip


def _rich_outputs(execution: str) -> tuple[OutputCard, ...]:
    missing = CardProblem(
        error="Stepout.ArtifactNotFound",
        message="s3://results-bucket/runs/model is not there: was it removed, or did a lifecycle rule expire it?",
    )
    return (
        OutputCard(
            output_id="o1",
            label="Compute",
            visit_id="v1",
            producer={"execution": execution, "state": "Compute", "attempt": "1", "version": "0.1.0"},
            artifacts=_first_cards(),
            result='{\n  "rows": 336776\n}',
        ),
        OutputCard(
            output_id="o2",
            label="ReadFiles",
            visit_id="v3",
            artifacts=(
                _card(
                    "a4", "by-month", "application/vnd.stepout.directory+json", 2_200, inside=_tree(), given_to=("v5",)
                ),
                _card(
                    "a5",
                    "model",
                    "application/octet-stream",
                    88_000_000,
                    verified="not",
                    verified_note="",
                    problem=missing,
                ),
            ),
        ),
    )


def rich_page() -> RunPage:
    """An execution that succeeded at its second try, with every kind of artifact."""
    run = ExecutionRun(
        arn="arn:aws:states:eu-west-1:123456789012:execution:Nightly:7f3c",
        name="7f3c",
        state_machine="arn:aws:states:eu-west-1:123456789012:stateMachine:Nightly",
        status="SUCCEEDED",
        started_at=_at(0),
        ended_at=_at(133.2),
        visits=_rich_visits(),
        events=41,
    )
    return RunPage(
        title="Nightly · 7f3c",
        source=run.arn,
        made_at=_at(3_600),
        execution=run,
        outputs=_rich_outputs(run.arn),
        notes=("The definition of the state machine could not be read: states:DescribeStateMachine is not permitted.",),
        spent=_spent(),
    )


def failed_page() -> RunPage:
    """An execution that failed: its tries waited long, and the last one ended it."""
    resource = "ecs:runTask.waitForTaskToken"
    tries = tuple(
        StateAttempt(
            number=n,
            resource=resource,
            scheduled_at=_at(3 + n * 400),
            working_at=_at(3 + n * 400 + 210 + 40 * n),
            working_said_by="ECS",
            ended_at=_at(3 + n * 400 + 330),
            outcome="FAILED" if n < 2 else "TIMED_OUT",
            error="OutOfMemory" if n < 2 else "States.HeartbeatTimeout",
            cause="the container was stopped: OutOfMemoryError: container killed due to memory usage (exit code 137)"
            if n < 2
            else "no heartbeat came for 60 s",
        )
        for n in range(3)
    )
    visits = (
        StateVisit(
            visit_id="v1", name="Prepare", kind="Pass", entered_at=_at(0.1), exited_at=_at(3), status="SUCCEEDED"
        ),
        StateVisit(
            visit_id="v2", name="TrainModel", kind="Task", entered_at=_at(3), exited_at=_at(1134), status="FAILED",
            attempts=tries,
        ),
    )  # fmt: skip
    run = ExecutionRun(
        arn="arn:aws:states:eu-west-1:123456789012:execution:Training:2026-11-29",
        name="2026-11-29",
        state_machine="arn:aws:states:eu-west-1:123456789012:stateMachine:Training",
        status="FAILED",
        started_at=_at(0),
        ended_at=_at(1134.5),
        error="States.HeartbeatTimeout",
        cause="no heartbeat came for 60 s",
        visits=visits,
        events=22,
    )
    return RunPage(title="Training · 2026-11-29", source=run.arn, made_at=_at(4_000), execution=run, spent=_spent())


def running_page() -> RunPage:
    """An execution that still runs, of which nobody says when its work began."""
    visit = StateVisit(
        visit_id="v1", name="Crunch", kind="Task", entered_at=_at(1), exited_at=None, status="RUNNING",
        attempts=(StateAttempt(number=0, resource="batch:submitJob.sync", scheduled_at=_at(1)),),
    )  # fmt: skip
    run = ExecutionRun(
        arn="arn:aws:states:eu-west-1:123456789012:execution:Crunching:x",
        name="x",
        state_machine="arn:aws:states:eu-west-1:123456789012:stateMachine:Crunching",
        status="RUNNING",
        started_at=_at(0),
        ended_at=None,
        visits=(visit,),
        events=4,
    )
    return RunPage(title="Crunching · x", source=run.arn, made_at=_at(754), execution=run, spent=_spent())


def documents_page() -> RunPage:
    """Documents without an execution, one of them unreadable."""
    unreadable = CardProblem(
        error="Stepout.InvalidDocument", message="output/9 is of a later version of stepout: upgrade"
    )
    return RunPage(
        title="2 output documents",
        source="output.json later.json",
        made_at=_at(86_400 * 3),
        outputs=(
            OutputCard(output_id="o1", label="output.json", artifacts=_first_cards()),
            OutputCard(output_id="o2", label="later.json", problem=unreadable),
        ),
        spent=_spent(ran_out=True),
    )


def _hostile_cards(text: str, name: str, problem: CardProblem) -> tuple[ArtifactCard, ...]:
    column = ColumnSummary(name=name, type=text, nulls=1, minimum=text, maximum=text, histogram=(0, 3, 1))
    insides = (
        TableInside(rows=2, columns=(column,), total_columns=1, head=((text,), (None,)), histogram_rows=2),
        TextInside(text=text * 3, language="json", cut=True),
        TreeInside(files=1, size=3, entries=(TreeEntry(name=name, size=3, entries=(TreeEntry(name=text, size=3),)),)),
        ImageInside(
            width=1, height=1, format=text, frames=2, thumbnail=thumbnail(4, 4), thumbnail_width=4, thumbnail_height=4
        ),
        None,
    )
    return tuple(
        ArtifactCard(
            artifact_id=f"a{n}", name=name, url=f"s3://b/{text}", size=3, media_type=text, checksum={text: text},
            version_id=text, annotations=text, given_to=("v1",), verified_note=text, inside=inside,
            problem=None if inside else problem,
        )
        for n, inside in enumerate(insides)
    )  # fmt: skip


def hostile_page() -> RunPage:
    """Every text is an attack: markup, a script, a name of 1,000 characters, controls, right-to-left overrides."""
    text, name = HOSTILE, HOSTILE + "x" * 1_000
    problem = CardProblem(error=text, message=text)
    attempt = StateAttempt(
        number=0, resource=text, scheduled_at=_at(1), working_at=_at(2), working_said_by=text, ended_at=_at(3),
        outcome="FAILED", error=name, cause=text * 20, details=text,
    )  # fmt: skip
    visit = StateVisit(
        visit_id="v1", name=name, kind="Task", entered_at=_at(0), exited_at=_at(3), status="FAILED",
        attempts=(attempt,), output_id="o1", given=("a1",),
    )  # fmt: skip
    odd = StateVisit(
        visit_id="v2", name=name, kind=text, entered_at=_at(0), exited_at=_at(3), status=text, output_id="o1"
    )  # fmt: skip
    run = ExecutionRun(
        arn=text, name=name, state_machine=text, status="FAILED", started_at=_at(0), ended_at=_at(3), error=name,
        cause=text, visits=(visit, odd), events=3,
    )  # fmt: skip
    output = OutputCard(
        output_id="o1",
        label=name,
        visit_id="v1",
        producer={text: text},
        artifacts=_hostile_cards(text, name, problem),
        result=text,
        problem=problem,
    )
    cell = ChildCell(index=0, status="FAILED", name=name, error=text, cause=text, seconds=1.0)
    return RunPage(
        title=name,
        source=text,
        made_at=_at(4),
        execution=run,
        outputs=(output,),
        children=ChildGrid(total=2, cells=(cell, ChildCell(index=1, status=text))),
        notes=(text,),
        spent=_spent(),
    )


def _huge_visit(n: int) -> StateVisit:
    start = 2 + n * 0.6
    failed = n % 83 == 4
    attempt = StateAttempt(
        number=0, resource="ecs:runTask.waitForTaskToken", scheduled_at=_at(start),
        working_at=_at(start + 12 + n % 9), working_said_by="ECS", ended_at=_at(start + 40 + n % 37),
        outcome="FAILED" if failed else "SUCCEEDED", error="Demo.CloudsOnly" if failed else "",
        cause="more than 95 % of the scene is cloud" if failed else "",
    )  # fmt: skip
    return StateVisit(
        visit_id=f"v{n}", name="MaskScene", kind="Task", entered_at=_at(start),
        exited_at=_at(start + 41 + n % 37), status="CAUGHT" if failed else "SUCCEEDED", iteration=n,
        inside="m1", attempts=(attempt,),
    )  # fmt: skip


def huge_page(children: int = 10_000) -> RunPage:
    """A Map of many children, some of which failed, and a loop of many visits; nothing is written to S3."""
    cells = tuple(
        ChildCell(
            index=n,
            status="FAILED" if n % 71 == 3 else "TIMED_OUT" if n % 997 == 5 else "SUCCEEDED",
            name=f"scene-{n:05}",
            error="Demo.CloudsOnly" if n % 71 == 3 else "States.Timeout" if n % 997 == 5 else "",
            cause="more than 95 % of the scene is cloud" if n % 71 == 3 else "",
            seconds=3 + (n * 7919 % 400) / 10,
            artifacts=1,
        )
        for n in range(children)
    )
    whole = (
        StateVisit(
            visit_id="m1", name="EachScene", kind="Map", entered_at=_at(1), exited_at=_at(900), status="SUCCEEDED"
        ),
    )
    run = ExecutionRun(
        arn="arn:aws:states:eu-west-1:123456789012:execution:Scenes:all",
        name="all",
        state_machine="arn:aws:states:eu-west-1:123456789012:stateMachine:Scenes",
        status="SUCCEEDED",
        started_at=_at(0),
        ended_at=_at(901),
        visits=(*whole, *map(_huge_visit, range(1_200))),
        events=25_000,
        more_events=True,
    )
    return RunPage(
        title="Scenes · all",
        source=run.arn,
        made_at=_at(1_000),
        execution=run,
        children=ChildGrid(total=children, cells=cells),
        spent=_spent(),
    )

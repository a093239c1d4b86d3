"""What may go, decided from what an object says of itself, what records name, and how its execution stands. Pure.

An object is a leftover if all of this holds; whatever is not known keeps it:

1. it is older than the age that was asked for, and is no record and no undelivered document itself;
2. its metadata says that a task with a record wrote it, and where that record lies fits the object's own key: a copy
   keeps the metadata, and belongs to whoever made it;
3. no record names it;
4. its execution, and the one that started that, have ended for good: neither runs, nor can be redriven.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from stepout.artifacts.commit_record import KEPT_STEM, RECORD_NAME, RecordedTask
from stepout.callbacks.lifecycle.document import UNDELIVERED_STEM

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stepout.artifacts.s3.inventory import StoredVersion

FORGOTTEN: Final = timedelta(days=90)
"""Step Functions knows an execution so long after its end
(https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html), and one year at most before it."""

_ENDED: Final = frozenset({"SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED"})
_ATTEMPT: Final = re.compile(r"[^/]+/[0-9]+-[0-9a-f]+/")
_RUNS: Final = frozenset({"RUNNING", "PENDING_REDRIVE"})


# Executions --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ExecutionStatus:
    """How an execution stands.

    Attributes:
        kind: ``"over"``: nothing in it will ever run again. ``"runs"``: it does, or may again. ``"gone"``: Step
            Functions does not know it. ``"unknown"``: nobody could say.
        told: The same in words, for people.
    """

    kind: Literal["over", "runs", "gone", "unknown"]
    told: str


def status_of(answer: Mapping[str, object]) -> ExecutionStatus:
    """Return what an answer to DescribeExecution says.

    What failed can be redriven for 14 days, and then writes again under the keys of ``layout="fixed"``
    (https://docs.aws.amazon.com/step-functions/latest/apireference/API_DescribeExecution.html, ``redriveStatus``).

    >>> status_of({"status": "FAILED", "redriveStatus": "REDRIVABLE"})
    ExecutionStatus(kind='runs', told='FAILED, and can be redriven')
    """
    status = str(answer.get("status"))
    if status not in _ENDED:
        return ExecutionStatus("runs" if status in _RUNS else "unknown", status)
    if status != "SUCCEEDED" and answer.get("redriveStatus", "NOT_REDRIVABLE") != "NOT_REDRIVABLE":
        return ExecutionStatus("runs", f"{status}, and can be redriven")
    return ExecutionStatus("over", status)


# Objects -----------------------------------------------------------------------------------------------------------


class Judgement(NamedTuple):
    """What becomes of an object or an upload, and why.

    Attributes:
        kind: ``"leftover"``: it may go. ``"unknown"``: it may be one, and is listed only. ``"kept"``: it is none.
        why: For people.
        hindered: Whether somebody could not be asked, so that another run may know more.
    """

    kind: Literal["leftover", "unknown", "kept"]
    why: str
    hindered: bool = False


def is_record(key: str) -> bool:
    """Tell whether a key is that of a document that names a task's objects: a record, an undelivered or a kept output.

    >>> is_record("runs/M/e/S/0-ab/_output.json"), is_record("runs/M/e/S/0-ab/features.parquet")
    (True, False)
    """
    name = key.rpartition("/")[2]
    return name == RECORD_NAME or name.startswith((UNDELIVERED_STEM, KEPT_STEM))


def task_of(key: str, metadata: Mapping[str, str]) -> RecordedTask | None:
    """Return the task that wrote an object, if that says so and lies where that task writes."""
    task = RecordedTask.from_metadata(metadata, key)
    if task is None or not task.record.endswith(f"/{RECORD_NAME}"):
        return None
    folder = task.record.removesuffix(RECORD_NAME)
    prefix = f"{task.prefix}/" if task.prefix else ""
    deep = folder.startswith(prefix) and folder.removeprefix(prefix).count("/") > _levels(task)
    return task if deep and key.startswith(folder) else None


def execution_folder(task: RecordedTask) -> str:
    """Return the folder of everything that the task's execution writes, with a slash at its end.

    >>> of = "arn:aws:states:eu-west-1:123456789012:execution"
    >>> record = "runs/Segment/7f3c/9/Mask/0-ab/_output.json"
    >>> child = RecordedTask(record=record, prefix="runs", execution=f"{of}:T:9", parent_execution=f"{of}:Segment:7f3c")
    >>> execution_folder(child), shared_folder(child)
    ('runs/Segment/7f3c/9/', 'runs/Segment/7f3c/')
    """
    return _above(task, _levels(task))


def is_of_execution(key: str, task: RecordedTask) -> bool:
    """Tell whether a key is one of the task's own execution, and of none that this started, which may outlive it.

    Their folders lie beside those of its states, so what has another depth than a state's attempts is not sure.

    >>> of = "arn:aws:states:eu-west-1:123456789012:execution"
    >>> task = RecordedTask(record="runs/M/e/Mask/0-ab/_output.json", prefix="runs", execution=f"{of}:M:e")
    >>> [is_of_execution(f"runs/M/e/{below}", task) for below in ("Mask/7/0-ab/a", "Next/0-ab/a", "child/Mask/0-ab/a")]
    [True, True, False]
    """
    folder, own = execution_folder(task), _above(task, _levels(task) + 1)
    return key.startswith(own) or (key.startswith(folder) and _ATTEMPT.match(key, len(folder)) is not None)


def shared_folder(task: RecordedTask) -> str:
    """Return the folder that it shares with the execution which started it, and with all others of that."""
    return _above(task, 2)


def _levels(task: RecordedTask) -> int:
    """Return how many segments below the prefix are the execution's; ``artifacts.keys.run_folder`` makes them."""
    return 2 if task.parent_execution in (None, task.execution) else 3


def _above(task: RecordedTask, levels: int) -> str:
    prefix = f"{task.prefix}/" if task.prefix else ""
    return prefix + "".join(f"{each}/" for each in task.record.removeprefix(prefix).split("/")[:levels])


def is_old(version: StoredVersion, older_than: timedelta) -> bool:
    """Tell whether a version is old enough, and no record itself."""
    return version.age >= older_than and not is_record(version.key)


def by_executions(task: RecordedTask, age: timedelta, ask: Callable[[str], ExecutionStatus]) -> Judgement:
    """Decide by the executions that an object which no record names belongs to.

    Args:
        task: From ``task_of``.
        age: How old the object, or the upload, is.
        ask: Returns how an execution stands.
    """
    if task.execution is None:
        return Judgement("unknown", "it names no execution that could be asked whether it runs")
    own = ask(task.execution)
    outer = own if task.parent_execution in (None, task.execution) else ask(str(task.parent_execution))
    for status in (own, outer):
        if status.kind == "runs":
            return Judgement("kept", f"its execution is {status.told}")
    if _is_over(outer, age) and (_is_over(own, age) or (own is not outer and _is_of_map(task.execution))):
        return Judgement("leftover", f"its execution is over ({own.told})")
    status = own if not _is_over(own, age) else outer
    hindered = status.kind == "unknown"
    return Judgement("unknown", f"whether its execution runs is not known ({status.told})", hindered)


def _is_over(status: ExecutionStatus, age: timedelta) -> bool:
    # One that runs is always known to its own account, however long it does.
    return status.kind == "over" or (status.kind == "gone" and age >= FORGOTTEN)


def _is_of_map(execution: str) -> bool:
    """Tell whether an execution is a child of a Distributed Map, which ends with the execution that has the map.

    >>> _is_of_map("arn:aws:states:eu-west-1:123456789012:execution:Segment/Tiles:9c1e")
    True
    """
    return "/" in execution.rpartition(":")[0].rpartition(":")[2]

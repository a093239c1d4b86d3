"""Outputs for containers that AWS Step Functions runs: verified S3 artifacts, reported as pointers.

A container writes artifacts to S3 and reports the task output: a small JSON document with a pointer to each artifact.
The next step resolves the pointers. It gets the very bytes that were written, or a clear error.

Produce. Token, bucket and prefix come from the environment::

    import stepout

    with stepout.open_task() as task:
        task.artifacts.put_table("features", table)  # pyarrow, pandas, polars, duckdb; as Parquet
        task.artifacts.put_image("preview", image)  # PIL, numpy
        task.artifacts.put("settings", {"level": 3})  # bytes, text, JSON, files, folders: by the type
        task.result["rows"] = table.num_rows  # small JSON
    # The block ended: SendTaskSuccess with the output. An exception left it: SendTaskFailure with its name and cause.

Consume. ``allow`` says where the document may point to::

    output = stepout.resolve_output(event, allow=["s3://results-bucket/runs/"])
    table = output["features"].read_table(columns=["id", "score"])
    image = output["preview"].read_image()
    settings = output["settings"].read_json()
    rows = output.result["rows"]

After a Map or an array job there are many outputs::

    for child in stepout.gather(event, allow=["s3://results-bucket/runs/"]):
        if child.error is None:
            total += child.output.result["rows"]

On the command line, for any language (``stepout --help``)::

    stepout run --output features=out.parquet -- ./job.sh
    stepout show output.json
    stepout page output.json -o run.html
    stepout asl ecs > state.json
    stepout doctor machine.json task-definition.json
    stepout demo

Where to look next, with ``help``: ``open_task`` and ``task``; ``ArtifactManager`` for every put; ``resolve_output``,
``Output`` and ``Artifact`` for every read; ``StepoutError`` for the errors, each of which says what to do;
``help("stepout.testing")``, in quotes, for a store and a target in memory; ``help("stepout.local")`` for an AWS on this
machine.

The documentation is in docs/ of the repository: a tutorial, how-tos, a reference and explanations.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stepout.artifacts.allow import ANY_BUCKET
    from stepout.artifacts.gather import gather, gather_table
    from stepout.artifacts.manager import ArtifactManager
    from stepout.artifacts.reading.artifact import Artifact
    from stepout.artifacts.reading.budget import ReadBudget
    from stepout.artifacts.reading.fan_in.children import Child
    from stepout.artifacts.reading.output import Output
    from stepout.artifacts.reading.read_many import read_many
    from stepout.artifacts.resolve import (
        read_result_writer,
        resolve,
        resolve_all,
        resolve_artifact,
        resolve_output,
    )
    from stepout.artifacts.store_writes import Encryption, StoreProfile
    from stepout.artifacts.transfer.plan import TransferSettings
    from stepout.artifacts.writing.item_reader import write_item_reader_manifest
    from stepout.artifacts.writing.options import ObjectLock
    from stepout.callbacks.protocols import Target
    from stepout.callbacks.task import Task
    from stepout.page.budget import PageBudget
    from stepout.page.write import write_page
    from stepout.schemas.contract import Contract
    from stepout.schemas.errors import (
        AccessDeniedError,
        ArrayIncompleteError,
        ArtifactChangedError,
        ArtifactExistsError,
        ArtifactExpiredError,
        ArtifactNotFoundError,
        ArtifactTooLargeError,
        ChecksumMismatchError,
        CommandFailedError,
        ConfigurationError,
        IntegrityError,
        InvalidDocumentError,
        InvalidTokenError,
        NotAllowedError,
        OtherProcessError,
        OutcomeUndeliveredError,
        OutputMissingError,
        OutputTooLargeError,
        PermanentError,
        ReadBudgetError,
        RetryableError,
        SizeMismatchError,
        StepoutError,
        StoreError,
        StoreUnavailableError,
        TaskClosedError,
        TaskError,
        TaskFailedError,
        TaskInterrupted,
        UndecodableError,
    )
    from stepout.schemas.identity import RunIdentity
    from stepout.schemas.many_failed import ManyFailedError
    from stepout.schemas.output import TaskOutput
    from stepout.schemas.pointer import Pointer
    from stepout.schemas.problems import Problem
    from stepout.schemas.runtime.event import Event, EventListener
    from stepout.schemas.runtime.events import Events
    from stepout.tasks import OpenTask, open_task, task

__version__ = "0.1.0"

__all__ = [
    "ANY_BUCKET",
    "AccessDeniedError",
    "ArrayIncompleteError",
    "Artifact",
    "ArtifactChangedError",
    "ArtifactExistsError",
    "ArtifactExpiredError",
    "ArtifactManager",
    "ArtifactNotFoundError",
    "ArtifactTooLargeError",
    "ChecksumMismatchError",
    "Child",
    "CommandFailedError",
    "ConfigurationError",
    "Contract",
    "Encryption",
    "Event",
    "EventListener",
    "Events",
    "IntegrityError",
    "InvalidDocumentError",
    "InvalidTokenError",
    "ManyFailedError",
    "NotAllowedError",
    "ObjectLock",
    "OpenTask",
    "OtherProcessError",
    "OutcomeUndeliveredError",
    "Output",
    "OutputMissingError",
    "OutputTooLargeError",
    "PageBudget",
    "PermanentError",
    "Pointer",
    "Problem",
    "ReadBudget",
    "ReadBudgetError",
    "RetryableError",
    "RunIdentity",
    "SizeMismatchError",
    "StepoutError",
    "StoreError",
    "StoreProfile",
    "StoreUnavailableError",
    "Target",
    "Task",
    "TaskClosedError",
    "TaskError",
    "TaskFailedError",
    "TaskInterrupted",
    "TaskOutput",
    "TransferSettings",
    "UndecodableError",
    "gather",
    "gather_table",
    "open_task",
    "read_many",
    "read_result_writer",
    "resolve",
    "resolve_all",
    "resolve_artifact",
    "resolve_output",
    "task",
    "write_item_reader_manifest",
    "write_page",
]

# A name is imported when it is first used, so that a consumer does not pay for the producer's code.
_HOMES = {
    "stepout.artifacts.allow": ("ANY_BUCKET",),
    "stepout.artifacts.gather": ("gather", "gather_table"),
    "stepout.artifacts.reading.artifact": ("Artifact",),
    "stepout.artifacts.reading.budget": ("ReadBudget",),
    "stepout.artifacts.reading.fan_in.children": ("Child",),
    "stepout.artifacts.manager": ("ArtifactManager",),
    "stepout.artifacts.reading.read_many": ("read_many",),
    "stepout.artifacts.transfer.plan": ("TransferSettings",),
    "stepout.artifacts.reading.output": ("Output",),
    "stepout.artifacts.resolve": (
        "read_result_writer",
        "resolve",
        "resolve_all",
        "resolve_artifact",
        "resolve_output",
    ),
    "stepout.artifacts.writing.item_reader": ("write_item_reader_manifest",),
    "stepout.artifacts.writing.options": ("ObjectLock",),
    "stepout.artifacts.store_writes": ("Encryption", "StoreProfile"),
    "stepout.callbacks.protocols": ("Target",),
    "stepout.callbacks.task": ("Task",),
    "stepout.page.budget": ("PageBudget",),
    "stepout.page.write": ("write_page",),
    "stepout.schemas.contract": ("Contract",),
    "stepout.schemas.identity": ("RunIdentity",),
    "stepout.schemas.many_failed": ("ManyFailedError",),
    "stepout.schemas.output": ("TaskOutput",),
    "stepout.schemas.pointer": ("Pointer",),
    "stepout.schemas.problems": ("Problem",),
    "stepout.schemas.runtime.event": ("Event", "EventListener"),
    "stepout.schemas.runtime.events": ("Events",),
    "stepout.tasks": ("OpenTask", "open_task", "task"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

logging.getLogger("stepout").addHandler(logging.NullHandler())


if not TYPE_CHECKING:  # a visible __getattr__ would hide misspelt names from type checkers

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module 'stepout' has no attribute {name!r}")
        value = getattr(import_module(_HOME_OF.get(name, "stepout.schemas.errors")), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    described = ("__all__", "__doc__", "__file__", "__name__", "__package__", "__path__", "__spec__", "__version__")
    rooms = ("artifacts", "callbacks", "local", "schemas", "testing")  # with names of their own, once they are imported
    return sorted({*__all__, *described, *(room for room in rooms if room in globals())})

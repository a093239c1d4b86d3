"""Makes a task's output document: gathers, checks, spills and records it; keeps one that could not be delivered."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepout.callbacks.lifecycle.result import RESULT
from stepout.callbacks.protocols import KeepsRecord, TracksUnfinished
from stepout.callbacks.targets.local import write_atomically
from stepout.schemas import Pointer, Problem, RunIdentity, TaskOutput, invalid_document, json_problems
from stepout.schemas.errors import ConfigurationError, OutputTooLargeError, StoreError, StoreUnavailableError
from stepout.schemas.spill import fit
from stepout.schemas.text.foreign_text import logger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepout.callbacks.lifecycle.session import TaskSession
    from stepout.callbacks.protocols import Artifacts

UNDELIVERED_STEM = "stepout-undelivered"

_log = logger("stepout.callbacks.task")


def make_document(
    result: Mapping[str, Any], *, artifacts: Artifacts | None, run: RunIdentity, session: TaskSession
) -> dict[str, Any]:
    """Return the document to report; parts of it are moved into artifacts if it is over its budget.

    Args:
        result: The inline result.
        artifacts: Has the pointers, and takes the parts that are spilled.
        run: The producer.
        session: Has the contract, the budget and the secrets to check against.

    Returns:
        The wire form.

    Raises:
        InvalidDocumentError: An artifact is still being written, the result is not JSON, the document breaks its
            schema or the contract, or holds a secret.
        OutputTooLargeError: The document is over its budget and cannot be spilled.
        StoreError: Writing a spilled part failed.
    """
    from stepout.schemas.validation import validate

    run = run_since(run, session)
    if artifacts is not None and isinstance(artifacts, TracksUnfinished):
        _refuse("the task's output", [_unfinished(name) for name in artifacts.unfinished])
    _refuse("the task's result", json_problems(dict(result), RESULT, convertible=True))
    output = TaskOutput(
        artifacts=dict(artifacts.pointers) if artifacts is not None else {},
        result=dict(result),
        producer=run if run != RunIdentity() else None,
    )
    document = output.to_dict()
    _refuse("the task's output", validate(document, "output"))
    _refuse("the task's output", [_secret(path) for path in session.redactor.found(document)])
    if session.contract is not None:
        _refuse("the task's output", session.contract.problems(output, result))

    def write(stem: str, content: Mapping[str, Any]) -> Pointer:
        if artifacts is None:
            raise OutputTooLargeError(
                f"the task's output is over its budget of {session.budget:,} bytes, and there is no artifact manager "
                "to spill it to: give the task one (STEPOUT_BUCKET), or make the result smaller"
            )
        return artifacts.put_document(stem, content)

    fitting = fit(output, write=write, budget=session.budget, spill=session.spill, document=document)
    return document if fitting is output else fitting.to_dict()


def run_since(run: RunIdentity, session: TaskSession) -> RunIdentity:
    """Return a run with when its task began; a run of which nothing is known stays so."""
    return replace(run, started_at=run.started_at or session.started_at) if run != RunIdentity() else run


def keep_record(document: Mapping[str, Any], artifacts: Artifacts | None) -> None:
    """Keep the document beside the artifacts that it names, where the task keeps a record.

    Raises:
        StoreUnavailableError: It cannot be written, whatever the reason: the state may try again, as another attempt
            has a folder of its own.
    """
    if not (isinstance(artifacts, KeepsRecord) and artifacts.keeps_record):
        return
    try:
        artifacts.put_record(document)
    except StoreError as error:
        raise StoreUnavailableError(
            f"the work is done, but its commit record was not written, so no success was reported: {error}. Allow "
            "s3:PutObject below the prefix of the artifacts, or keep no record (STEPOUT_COMMIT_RECORD=off)"
        ) from error


def _refuse(what: str, problems: list[Problem]) -> None:
    if problems:
        raise invalid_document(what, problems, "No success was reported.")


def _unfinished(name: str) -> Problem:
    message = (
        "was opened and is not committed, and would be missing: it is still being written, its writer was never "
        "closed, or an exception ended the writing (the log says which). Open it in a with block, wait for its thread, "
        "write it again, or call its writer's abort() if the output does without it"
    )
    return Problem(f"$.artifacts.{name}", "unfinished", message)


def _secret(path: str) -> Problem:
    return Problem(path, "secret", "holds a task token, another secret of the task, or a presigned URL")


def keep(document: Mapping[str, Any], artifacts: Artifacts | None) -> str:
    """Keep an undelivered document: beside the attempt's artifacts, else in a local file.

    Args:
        document: The output document.
        artifacts: The artifact manager, if the task has one.

    Returns:
        A phrase for a message: where the document is, or that it could not be kept.
    """
    if artifacts is not None:
        try:
            return f"the output document is kept at {artifacts.put_document(UNDELIVERED_STEM, document).url}"
        except Exception as error:  # noqa: BLE001 - whatever is wrong there, a local copy is better than none
            # A task without a bucket cannot keep it there, which is no reason for a warning.
            tell = _log.info if isinstance(error, ConfigurationError) else _log.warning
            tell("the undelivered output document could not be kept beside the artifacts: %s", error)
    try:
        path = Path(tempfile.mkdtemp(prefix=f"{UNDELIVERED_STEM}-")) / "output.json"
        write_atomically(path, document)
    except OSError as error:
        return f"the output document could not be kept anywhere ({error.strerror})"
    return f"the output document is kept in the local file {path}"

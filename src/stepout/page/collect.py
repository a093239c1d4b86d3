"""From what somebody asks for to a page of it: an execution, its documents, what is inside of them, and the lineage."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from stepout.artifacts.reading.access import access_from
from stepout.artifacts.reading.budget import ReadBudget
from stepout.page.budget import PageBudget
from stepout.page.documents.run_documents import RunDocuments
from stepout.page.documents.sources import name_of, read_source
from stepout.page.history.execution import history_of
from stepout.page.history.step_functions import ask_execution
from stepout.page.model import RunPage
from stepout.page.task_tokens import without_tokens
from stepout.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from stepout.artifacts.allow import Allowed, AnyBucket
    from stepout.page.documents.sources import PageSource
    from stepout.page.history.execution import ExecutionHistory

_MANY: Final = 1 << 60
_SHOWN: Final = 5
_NOTHING_ALLOWED: Final = (
    "No artifact was read, as nothing says what may be: pass --allow s3://BUCKET/PREFIX/ (allow= in Python), or set "
    "STEPOUT_ALLOW."
)


def collect_run(  # noqa: PLR0913 - keyword-only, each with its own meaning
    sources: Sequence[object],
    *,
    allow: Iterable[str | AnyBucket] | AnyBucket | Allowed | None = None,
    budget: PageBudget | None = None,
    client: Any = None,
    step_functions: Any = None,
    expected_bucket_owner: str | None = None,
    request_payer: str | None = None,
    allow_expired: bool = False,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> RunPage:
    """Collect what a page shows.

    Args:
        sources: What to look at, at least one, and at most one execution among them: a file of an output document (a
            path, also as text), ``-`` for standard input, JSON (text or a value), an ``Output``; the URL of a pull-mode
            outcome, ``s3://…`` or ``dynamodb://…``; a ResultWriter's manifest (its URL, or what the Map returned); the
            ARN of an execution, or its address in the console.
        allow: What may be read, as for ``resolve_output``; ``None``: what ``STEPOUT_ALLOW`` says, and nothing if that
            is unset: the page then shows what documents say, with a note.
        budget: What reading may cost; ``None``: the usual.
        client: A boto3 S3 client or a ``Store``; ``None``: one of our own.
        step_functions: A boto3 client for ``stepfunctions``; ``None``: one of our own, in the execution's region.
        expected_bucket_owner: As for ``resolve_output``.
        request_payer: As for ``resolve_output``.
        allow_expired: As for ``resolve_output``.
        now: The clock.

    Returns:
        The page. What could not be read is a card's problem or a note.

    Raises:
        ConfigurationError: A source is none of these, there is none, or there are several executions; or the execution
            cannot be looked at: it is of an Express state machine, another account's, or gone. The message says what
            to do.
        AccessDeniedError: Step Functions may not be asked for the execution; the message names the rights.
        StoreUnavailableError: Step Functions cannot be reached.
        OSError: A file cannot be read.
    """
    if isinstance(sources, str | bytes) or not sources:
        raise ConfigurationError("sources= is a list of at least one source, such as ['output.json']. Nothing was read")
    budget = PageBudget() if budget is None else budget
    blind = allow is None and os.environ.get("STEPOUT_ALLOW") is None
    access = access_from(
        allow=[] if blind else allow,
        client=client,
        expected_bucket_owner=expected_bucket_owner,
        request_payer=request_payer,
        allow_expired=allow_expired,
        budget=ReadBudget(requests=_MANY, entries=_MANY, bytes=_MANY),  # the page's own is the narrower one
    )
    access = replace(access, meter=budget)
    read = [read_source(each, access) for each in sources]
    history, notes = _asked(read, budget, step_functions)
    documents = RunDocuments(access, budget, history, step_functions=step_functions, blind=blind)
    documents.of_execution()
    for source in read:
        documents.of_source(source)
    if blind:
        notes.insert(0, _NOTHING_ALLOWED)
    page = RunPage(
        title=_title(read, history),
        source=" ".join(name_of(each) for each in sources),
        made_at=now(),
        execution=documents.execution(),
        outputs=documents.outputs(),
        children=documents.children(),
        notes=tuple(_sentence(each) for each in (*notes, *documents.notes)),
        spent=budget.spent(),
    )
    return page if history is None else without_tokens(page, history.tokens)


def _asked(
    sources: list[PageSource], budget: PageBudget, step_functions: Any
) -> tuple[ExecutionHistory | None, list[str]]:
    """Ask for the execution, if one of the sources is one."""
    arns = [source.arn for source in sources if source.arn is not None]
    if len(arns) > 1:
        raise ConfigurationError(f"a page shows one execution, and {len(arns)} were asked for: make a page of each")
    if not arns:
        return None, []
    asked = ask_execution(arns[0], budget, step_functions)
    history = history_of(asked.described, asked.events, more_events=asked.more_events)
    notes = list(asked.notes)
    if history.run.status == "RUNNING":
        notes.insert(0, _open_now(history))
    return history, notes


def _open_now(history: ExecutionHistory) -> str:
    waiting = list(dict.fromkeys(each.name for each in history.visits if each.is_open))
    if not waiting:
        return "The execution is still running: make the page again when it has ended."
    more = f" and {len(waiting) - _SHOWN:,} more" if len(waiting) > _SHOWN else ""
    return f"The execution is still running. Open now: {', '.join(waiting[:_SHOWN])}{more}."


def _sentence(note: str) -> str:
    """Return a note as a sentence; a name at its beginning, such as that of a right, stays as it is."""
    first = note.partition(" ")[0]
    begun = f"{note[:1].upper()}{note[1:]}" if first.isalpha() else note
    return begun if begun.endswith((".", "…", ")")) else f"{begun}."


def _title(sources: list[PageSource], history: ExecutionHistory | None) -> str:
    if history is not None:
        return f"{history.run.state_machine}: {history.run.name}"
    return sources[0].label if len(sources) == 1 else f"{sources[0].label} and {len(sources) - 1:,} more"

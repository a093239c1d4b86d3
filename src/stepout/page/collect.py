"""From what somebody asks for to a page of it: an execution, its documents, what is inside of them, and the lineage."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from stepout.page.budget import PageBudget
from stepout.page.model import RunPage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from stepout.artifacts.allow import Allowed, AnyBucket


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
        sources: What to look at, at least one, and at most one execution among them: a file of an output document
            (text or a path), ``-`` for standard input, JSON (text or a value), an ``Output``; the URL of a pull-mode
            outcome, ``s3://…`` or ``dynamodb://…``; a ResultWriter's manifest (its URL, or what the Map returned); the
            ARN of an execution.
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
            cannot be looked at: it is of an Express state machine, a right is missing, it is another account's, or it
            is gone. The message says what to do.
        OSError: A file cannot be read.
    """
    del allow, client, step_functions, expected_bucket_owner, request_payer, allow_expired
    budget = PageBudget() if budget is None else budget
    source = " ".join(map(str, sources))
    return RunPage(title=source, source=source, made_at=now(), spent=budget.spent())

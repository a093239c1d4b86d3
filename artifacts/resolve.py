"""From a document to its artifacts: the consumer's front door. The document is untrusted input.

``foreign``, ``resolved``, ``outcome`` and ``result_writer`` are imported where they are needed: most documents do
without, and a Lambda pays for every module when it starts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

from stepout.artifacts.reading.access import DOCUMENT_LIMIT, access_from
from stepout.artifacts.reading.artifact import Artifact, make_artifact
from stepout.artifacts.reading.documents.given_document import given_value, is_outcome_url
from stepout.artifacts.reading.output import Output, make_output
from stepout.schemas.errors import ConfigurationError, InvalidDocumentError, invalid_document
from stepout.schemas.problems import Problem
from stepout.schemas.search.locate import survey
from stepout.schemas.text.foreign_text import logger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Unpack

    from stepout.artifacts.reading.access import Access, ReadOptions, Verify
    from stepout.artifacts.reading.documents.foreign import ForeignReference
    from stepout.artifacts.reading.documents.resolved import Resolved
    from stepout.artifacts.reading.fan_in.result_writer import ChildResult
    from stepout.schemas.contract import Contract
    from stepout.schemas.runtime.events import Operation
    from stepout.schemas.search.traversal import DocumentKind


F = TypeVar("F", Output, Artifact)

_log = logger("stepout.artifacts.resolve")

_OTHER: Final = {"output": "a task output: use resolve_output", "pointer": "a pointer: use resolve_artifact"}


def resolve_output(
    document: object,
    *,
    verify: Verify = True,
    contract: Contract | None = None,
    execution: str | None = None,
    state: str | None = None,
    **options: Unpack[ReadOptions],
) -> Output:
    """Resolve a task output to its artifacts and its result.

    Args:
        document: An output; JSON (a value, text or bytes) that contains exactly one at any depth, such as a
            Lambda's event; or the URL that a task in pull mode wrote to, ``s3://bucket/key`` or
            ``dynamodb://table/key``.
        allow: What the document may point to: ``["s3://bucket/prefix/"]``, compared by path segment; ``[]`` permits
            nothing, ``ANY_BUCKET`` every bucket; ``None`` consults ``STEPOUT_ALLOW``. An output that points
            anywhere else is refused as a whole, before any request. A table has to be listed itself:
            ``"dynamodb://table/"``.
        client: A boto3 S3 client, which settles region and endpoint; a ``Store``; ``None`` for a client of our own.
            Outcomes in DynamoDB are read with the environment's region and credentials.
        verify: ``True``: whole reads are held to the best checksum that the pointer has; ``"sha256"``: to SHA-256
            or not at all; ``"pinned"`` (or ``False``): to size and version only.
        max_size: Where reads into memory stop, in bytes; ``None``: at a quarter of the memory that the process was
            granted (Lambda's setting, control groups, resource limits, physical memory), at most 1 GiB.
        expected_bucket_owner: The account, 12 digits, that must own every bucket.
        request_payer: ``"requester"`` for buckets whose readers pay; ``None``: what ``STEPOUT_REQUEST_PAYER`` says.
        budget: What may be fetched because the document says so, before an artifact is read, and for each read of a
            directory: ``ReadBudget(requests=1_000, entries=500_000, bytes=10 << 30)`` unless told otherwise.
        allow_expired: Also ask for what has expired by this machine's clock, as its pointer says: it may be there yet.
        events: Who is told of this and of each read; ``None``: the task that it is in, or nobody.
        settings: ``TransferSettings(memory=…, connections=…)`` for each read of what this leads to; ``None``: what
            suits the process and the server. Several objects that are read as one (a directory, ``read_many``) share
            the connections, one each.
        contract: Checked once more on this side.
        execution: The ARN that ``producer.execution`` must be, or its ``parentExecution``; for pull mode, where the URL
            alone does not tell. A failure of another execution at the URL does not count either.
        state: The name that ``producer.state`` must be.

    Returns:
        The output. A document that was spilled is followed here; a result that was spilled when ``result`` is asked
        for.

    Raises:
        InvalidDocumentError: There is no output or there are several (``problems`` has their locations; one may be
            merged into another), it is invalid, breaks the contract, or is another execution's.
        ConfigurationError: No allow-list was given.
        NotAllowedError: It points outside the allow-list.
        TaskFailedError: There is a failure and no output, or a URL was given and its task has failed: ``error`` and
            ``cause`` are what it said.
        StoreError: A spilled document, or that of the URL, is missing, denied, changed, or unreachable.
        IntegrityError: A spilled document is not what was written.
    """
    access = access_from(verify=verify, **options)
    with access.events.operation("resolve", "resolve_output") as told:
        value, kind, location = _one(document, access, follow=True, execution=execution, state=state)
        if kind != "output":
            raise _wrong_kind(kind, location)
        output = make_output(value, access, location)
        output.check_producer(execution, state)
        if contract is not None:
            output.check_contract(contract)
        return _seen(told, output)


def resolve_artifact(
    document: object,
    *,
    verify: Verify = True,
    **options: Unpack[ReadOptions],
) -> Artifact:
    """Resolve a pointer to its artifact; nothing is requested before the first read.

    Args:
        document: A pointer; JSON that contains exactly one and no task output; or a reference of middy-store or the SQS
            extended client, which is described by one HEAD and becomes a ``ForeignArtifact``.
        verify: As for ``resolve_output``.
        options: As for ``resolve_output``: ``allow``, ``client``, ``max_size``, ``expected_bucket_owner``,
            ``request_payer``, ``budget``, ``settings``.

    Raises:
        InvalidDocumentError: There is no pointer, there are several, it is invalid, or it is a task output.
        ConfigurationError: No allow-list was given.
        NotAllowedError: It points outside the allow-list.
    """
    access = access_from(verify=verify, **options)
    with access.events.operation("resolve", "resolve_artifact") as told:
        value, kind, location = _one(document, access, follow=False)
        if not isinstance(value, dict):
            return _seen(told, _foreign(value, access))
        if kind != "pointer":
            raise _wrong_kind(kind, location)
        return _seen(told, make_artifact(value, access, location))


def resolve(
    document: object,
    *,
    verify: Verify = True,
    execution: str | None = None,
    state: str | None = None,
    **options: Unpack[ReadOptions],
) -> Output | Artifact:
    """Resolve whatever a document is: exactly one task output, or else exactly one pointer or foreign reference.

    Args:
        document: As for ``resolve_output`` and ``resolve_artifact``.
        verify: As for ``resolve_output``.
        execution: As for ``resolve_output``; a lone pointer does not say who made it, and is refused.
        state: As for ``execution``.
        options: As for ``resolve_output``: ``allow``, ``client``, ``max_size``, ``expected_bucket_owner``,
            ``request_payer``, ``budget``.

    Raises:
        InvalidDocumentError: There is neither, there are several, it is invalid, or another execution's.
        TaskFailedError: As for ``resolve_output``.
        StoreError: As for ``resolve_output``.
    """
    access = access_from(verify=verify, **options)
    with access.events.operation("resolve", "resolve") as told:
        value, kind, location = _one(document, access, follow=False, execution=execution, state=state)
        if kind != "output" and (execution is not None or state is not None):
            advice = "a pointer, which does not say whose it is: leave out execution= and state="
            raise _wrong_kind(kind, location, advice)
        if not isinstance(value, dict):
            return _seen(told, _foreign(value, access))
        if kind == "pointer":
            return _seen(told, make_artifact(value, access, location))
        output = make_output(value, access, location)
        output.check_producer(execution, state)
        return _seen(told, output)


def resolve_all(
    document: object,
    *,
    verify: Verify = True,
    count: int | None = None,
    execution: str | None = None,
    state: str | None = None,
    **options: Unpack[ReadOptions],
) -> Resolved:
    """Resolve every task output, pointer and foreign reference in a document, such as the results of a Map state.

    What a state machine merged into another document (``ResultPath: "$.score"``) is found too, and so is what a task
    put into its own result; text inside the JSON is not looked into. A ``ResultWriter``'s manifest is followed: the
    outputs of its children that succeeded are found as if they stood in its place, at
    ``$.ResultWriterDetails.SUCCEEDED[0]`` and so on. A manifest never leads to another: what a child names in its turn
    is refused, and resolved by itself.

    Args:
        document: JSON (a value, text or bytes), what ``resolve`` returned, or the URL of a task's outcome; with
            ``count``, the URL that an array job was given, whose children wrote to ``{index}`` in it, or behind a slash
            at its end.
        verify: As for ``resolve_output``.
        count: How many children an array job has (Batch's ``ArrayProperties.Size``, Kubernetes' ``completions``). Their
            outputs are at ``$[0]``, ``$[1]`` and so on, all of them, or it is an error.
        execution: As for ``resolve_output``; for a URL only.
        state: As for ``resolve_output``; for a URL only.
        options: The other keywords of ``resolve_output``; each child of an array job is a document with a ``budget`` of
            its own.

    Returns:
        What was found by location, such as ``$.results[3]``, in the document's order; empty if there is nothing. Its
        ``failures`` are the tasks that failed, which are no outcome and not among its values.

    Raises:
        ArrayIncompleteError: Some children of an array job are missing, failed, or left no output of this run.
        InvalidDocumentError: One of them is invalid.
        ReadBudgetError: It leads to more requests, entries or bytes than the budget.
        NotAllowedError: One of them points outside the allow-list.
        StoreError: As for ``resolve_output``.
    """
    from stepout.artifacts.reading.documents.resolved import resolve_every

    access = access_from(verify=verify, **options)
    with access.events.operation("resolve", "resolve_all") as told:
        if count is not None or execution is not None or state is not None:
            resolved = _of_url(document, count, access, execution, state)
        else:
            resolved = resolve_every(given_value(document, access), access)
        if told is not None:
            outputs = [each for each in resolved.values() if isinstance(each, Output)]
            told.describe(artifacts=len(resolved) - len(outputs) + sum(map(len, outputs)))
    if resolved.failures:
        _log.warning("resolve_all: %d tasks of the document failed; .failures has them", len(resolved.failures))
    return resolved


def read_result_writer(
    document: object,
    **options: Unpack[ReadOptions],
) -> Iterator[ChildResult]:
    """Read the results of a Distributed Map's children, failed ones included, as they arrive.

    Args:
        document: JSON with exactly one ``ResultWriterDetails``, which is what the Map state returns.
        options: The keywords of ``resolve_output`` but ``verify``; ``allow`` has to hold the manifest and the result
            files, and ``max_size`` is the largest result file that is read, in bytes; ``None``: any, as none is held
            whole.

    Yields:
        Each child, whose ``output`` can be resolved in its turn. It is provisional until its file ends, which is
        compared with S3's checksum then; ``gather`` goes on behind what cannot be read.

    Raises:
        InvalidDocumentError: There is no such reference, there are several, or the manifest has another shape.
        NotAllowedError: The manifest or a result file lies outside the allow-list.
        IntegrityError: A result file has another size than the manifest says, or other bytes than S3 stored.
        StoreError: Missing, denied, changed, or unreachable.
    """
    from stepout.artifacts.reading.fan_in.result_writer import children_of, the_manifest

    access = access_from(verify=True, **options)
    return children_of(access, the_manifest(given_value(document, access)))


# Inside -----------------------------------------------------------------------------------------------------------


def _seen(told: Operation | None, found: F) -> F:
    """Tell listeners what was resolved."""
    if told is not None and isinstance(found, Output):
        told.describe(artifacts=len(found), traceparent=found.document.traceparent)
    elif told is not None and isinstance(found, Artifact):
        told.describe(artifacts=1, bucket=found.pointer.bucket, key=found.pointer.key)
    return found


def _of_url(document: object, count: int | None, access: Access, execution: str | None, state: str | None) -> Resolved:
    """Resolve what lies at the URL of an outcome, or at those of all children of an array job."""
    from stepout.artifacts.reading.documents.outcome import CONNECTIONS, OutcomeReader
    from stepout.artifacts.reading.documents.resolved import Resolved, resolve_every
    from stepout.artifacts.reading.fan_in.array_job import incomplete, read_children
    from stepout.schemas.array import checked_count
    from stepout.schemas.pull import AskedRun

    if not is_outcome_url(document):
        msg = "count=, execution= and state= are for the URL of an outcome, s3://… or dynamodb://…: this is a document"
        raise ConfigurationError(f"{msg}. Nothing was read")
    outcomes = OutcomeReader(AskedRun(execution=execution, state=state))

    def resolve_one(url: str) -> Resolved:
        own = access.with_own_spending()
        found = resolve_every(outcomes.read(url, own), own)
        output = found.get("$")
        if not isinstance(output, Output):
            raise invalid_document(f"what lies at {url}", [Problem("$", "type", "must be a task output")])
        output.check_producer(execution, state)
        return found

    if count is None:
        return resolve_one(document)
    at_once = access.at_once(CONNECTIONS)
    children, missing, failures = read_children(document.strip(), checked_count(count), resolve_one, at_once=at_once)
    resolved = Resolved()
    for index, child in children.items():
        resolved.update((f"$[{index}]{location[1:]}", each) for location, each in child.items())
        resolved.failures.update((f"$[{index}]{location[1:]}", each) for location, each in child.failures.items())
    if missing or failures:
        raise incomplete(document.strip(), count, missing, failures, resolved)
    return resolved


def _one(document: object, access: Access, *, follow: bool, **run: str | None) -> tuple[Any, DocumentKind, str]:
    """Return the one document: parsed JSON, or a foreign reference if there is nothing else and it was not followed."""
    value = given_value(document, access, **run)
    seen = survey(value)
    if seen.texts:
        from stepout.artifacts.reading.documents.foreign import opened_texts

        value = opened_texts(value)
        seen = survey(value)
    if not seen.found:
        from stepout.artifacts.reading.documents.foreign import find_references, load_foreign, opened_texts

        value = opened_texts(value)
        references = find_references(value)
        if len(references) == 1 and references[0].kind != "result-writer":
            if not follow:
                return references[0], "pointer", references[0].location
            value = opened_texts(load_foreign(_read_foreign(access, references[0])))
        seen = survey(value)
    found = seen.the_document()
    return found.document, found.kind, found.location


def _foreign(reference: ForeignReference, access: Access) -> Artifact:
    from stepout.artifacts.reading.documents.foreign_artifact import make_foreign

    return make_foreign(reference, access)


def _read_foreign(access: Access, reference: ForeignReference) -> bytes:
    found = _foreign(reference, access)
    access.spending.take(found.url, requests=1, size=found.size)
    return found.read_bytes(max_size=DOCUMENT_LIMIT)


def _wrong_kind(kind: DocumentKind, location: str, what: str | None = None) -> InvalidDocumentError:
    problem = Problem(location, "version", f"is {what or _OTHER[kind]}")
    return invalid_document("the document", [problem])

"""``Output``: a task output, resolved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from stepout.artifacts.reading.access import DOCUMENT_LIMIT, Access, Verify
from stepout.artifacts.reading.artifact import Artifact
from stepout.schemas.errors import InvalidDocumentError, invalid_document
from stepout.schemas.identity import RunIdentity
from stepout.schemas.output import TaskOutput
from stepout.schemas.pointer import Pointer
from stepout.schemas.problems import Problem, member
from stepout.schemas.search.locate import find_documents, survey
from stepout.schemas.search.traversal import called
from stepout.schemas.text.json_text import dump_json

if TYPE_CHECKING:
    from stepout.artifacts.reading.files.filesystem import FileSystemKind
    from stepout.schemas.contract import Contract


class Output(Mapping[str, Artifact]):
    """A task output: artifacts by name, the inline result, and who produced it.

    Args:
        document: The output, with its artifacts: a manifest has been followed.
        access: How its artifacts are read; ``resolve_output`` makes outputs, and knows it.

    Raises:
        NotAllowedError: One of its pointers lies outside the allow-list.
    """

    def __init__(self, document: TaskOutput, access: Access) -> None:
        self._document = document
        self._access = access
        self._artifacts = {
            name: Artifact(pointer, access, name) for name, pointer in (document.artifacts or {}).items()
        }
        self._result: Mapping[str, Any] | None = None
        # Made now, though it may never be read: a pointer outside the allow-list refuses the output as a whole.
        self._spilled = Artifact(document.result, access) if isinstance(document.result, Pointer) else None

    def __reduce__(self) -> tuple[Any, ...]:
        return Output, (self._document, self._access)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        """Return what is the same for the same result and artifacts, in every process."""
        tokens = [(name, *each.__dask_tokenize__()) for name, each in sorted(self._artifacts.items())]
        result = self._document.result
        return "stepout-output", tokens, self._spilled.__dask_tokenize__() if self._spilled else dump_json(result or {})

    def __getitem__(self, name: str) -> Artifact:
        try:
            return self._artifacts[name]
        except KeyError:
            msg = f"{name!r}: the output has the artifacts {', '.join(self._artifacts) or '(none)'}"
            raise KeyError(msg) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._artifacts)

    def __len__(self) -> int:
        return len(self._artifacts)

    def __contains__(self, name: object) -> bool:
        return name in self._artifacts

    def __repr__(self) -> str:
        return f"<Output with {', '.join(self._artifacts) or 'no artifacts'}>"

    @property
    def document(self) -> TaskOutput:
        """The document itself."""
        return self._document

    @property
    def producer(self) -> RunIdentity | None:
        """Which run of which state made it; ``None`` if it does not say."""
        return self._document.producer

    @property
    def result(self) -> Mapping[str, Any]:
        """The task's small result, ``{}`` if it gave none.

        Where the result was spilled into an artifact, that is read and verified at the first access.

        Raises:
            InvalidDocumentError: What was spilled is no JSON object.
            ArtifactTooLargeError: It is over 64 MiB: read ``document.result`` with ``resolve_artifact``.
            StoreError: It is missing, expired, denied, changed, or unreachable.
        """
        if self._result is None:
            self._result = self._read_result()
        return self._result

    @property
    def spilled(self) -> Artifact | None:
        """The artifact that holds the result, where it was spilled; ``None`` where it is inline."""
        return self._spilled

    def read_many(
        self,
        names: Iterable[str] | None = None,
        *,
        connections: int | None = None,
        max_size: int | None = None,
    ) -> Iterator[tuple[str, bytes]]:
        """Read many artifacts into memory, verified, several at once; see ``stepout.read_many``.

        Args:
            names: Which; ``None``: all of them.
            connections: Requests in flight at once, 16 by default.
            max_size: The most to take of one artifact, in bytes.

        Yields:
            Name and bytes, in the order in which they arrive.

        Raises:
            KeyError: There is no artifact of such a name. Nothing was read.
            ManyFailedError: At the end, if any failed.
        """
        from stepout.artifacts.reading.read_many import read_many

        wanted = self._artifacts if names is None else {name: self[name] for name in names}
        return read_many(wanted, connections=connections, max_size=max_size)

    def filesystem(
        self, kind: FileSystemKind = "pyarrow", *, verify: Verify | None = None, max_size: int | None = None
    ) -> Any:
        """Return a read-only file system over all artifacts, for engines; see ``Artifact.filesystem``.

        Paths are ``NAME`` for an artifact of one object, and ``NAME/PATH`` for the files of a directory or a dataset.

        Args:
            kind: As for ``Artifact.filesystem``.
            verify: As for ``Artifact.filesystem``.
            max_size: As for ``Artifact.filesystem``.

        Raises:
            ConfigurationError: As for ``Artifact.filesystem``.
        """
        from stepout.artifacts.reading.files.filesystem import file_system

        return file_system(self._document.artifacts or {}, self._access.told(verify, max_size), kind)

    def check_producer(self, execution: str | None, state: str | None) -> None:
        """Raise ``InvalidDocumentError`` unless this execution and this state made the output (``None``: any).

        The execution may also be the one that started the producer's: children of a Map belong to both.
        """
        said = self.producer or RunIdentity()
        pairs = {"execution": ((said.execution, said.parent_execution), execution), "state": ((said.state,), state)}
        problems = [
            Problem(member("$.producer", name), "value", "is not the one that was asked for")
            for name, (found, wanted) in pairs.items()
            if wanted is not None and wanted not in found
        ]
        if problems:
            raise invalid_document("the task output", problems, "It is another run's, perhaps an earlier one's.")

    def check_contract(self, contract: Contract) -> None:
        """Raise ``InvalidDocumentError`` with every way in which the output breaks a contract."""
        problems = contract.problems(self._document, self.result if self._document.result is not None else None)
        if problems:
            raise invalid_document("the task output", problems, "It breaks the contract.")

    def _read_result(self) -> Mapping[str, Any]:
        if self._spilled is None:
            inline = self._document.result
            return inline if isinstance(inline, Mapping) else {}
        value = self._spilled.read_json(max_size=DOCUMENT_LIMIT)
        if not isinstance(value, dict):
            raise invalid_document("the spilled result", [Problem("$", "type", "must be an object")])
        return value


def make_output(value: object, access: Access, location: str = "$") -> Output:
    """Parse a task output and follow its manifest, once.

    Args:
        value: Parsed JSON.
        access: How its artifacts are read; ``resolve_output`` makes outputs, and knows it.
        location: Where it was found, for messages.

    Raises:
        InvalidDocumentError: It is invalid, or its manifest leads to anything but an output with artifacts.
        NotAllowedError: A pointer lies outside the allow-list.
        StoreError: The manifest is missing, expired, denied, changed, or unreachable.
    """
    try:
        document = TaskOutput.from_dict(_without_merged(value))
    except InvalidDocumentError as error:
        problems = [each.below(location) for each in error.problems]
        raise invalid_document("the task output", problems) from None
    if document.manifest is not None:
        whole = _whole(document.manifest, access, location)
        # What others merged beside a manifest is kept, as it is beside artifacts.
        document = replace(whole, producer=whole.producer or document.producer, extra={**whole.extra, **document.extra})
    return Output(document, access)


def _without_merged(value: Any) -> Any:
    """Return an output without what a state machine merged into its artifacts or its producer: it is found by itself.

    What calls itself a pointer, or holds nothing that anybody finds, stays, and is checked strictly.
    """
    if not isinstance(value, dict):
        return value
    producer, artifacts = value.get("producer"), value.get("artifacts")
    if called(producer) is not None:
        value = {name: child for name, child in value.items() if name != "producer"}
    if not isinstance(artifacts, dict):
        return value
    merged = {name for name, child in artifacts.items() if called(child) != "pointer" and _is_found(child)}
    if not merged:
        return value
    own = {name: child for name, child in artifacts.items() if name not in merged}
    if not own and "manifest" in value:  # the merge made the member
        return {name: child for name, child in value.items() if name != "artifacts"}
    return {**value, "artifacts": own}


def _is_found(value: object) -> bool:
    from stepout.artifacts.reading.documents.foreign import find_references

    if not isinstance(value, dict | list):
        return False
    seen = survey(value)
    return bool(seen.found or seen.failures or find_references(value))


def _whole(pointer: Pointer, access: Access, location: str) -> TaskOutput:
    """Read the document that a manifest stands for."""
    manifest = Artifact(pointer, access)  # the allow-list is asked first: what it refuses costs nothing of the budget
    access.spending.take(pointer.url, requests=1, size=pointer.size)
    value = manifest.read_json(max_size=DOCUMENT_LIMIT)
    whole = TaskOutput.from_dict(value, manifest_allowed=False)
    inner = [each for each in find_documents(value) if each.kind == "output"][1:]
    if inner:
        problems = [
            Problem(f"{location}.manifest", "unexpected", f"leads to a document with another output at {each.location}")
            for each in inner
        ]
        raise invalid_document("the task output", problems, "No writer of ours spills such a document.")
    return whole

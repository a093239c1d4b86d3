"""What ``task.input`` is: the JSON that was passed, or what it stands for if it is one document.

The rule, for whatever the input holds:

1. An input that *is* one document, and holds no other, is what the document names: a task output (or the URL of one)
   its ``Output``, a pointer its ``Artifact``.
2. A pointer to JSON is how JSON is passed that would not fit, so it is that JSON, by rule 1; a pointer that lies there
   is not followed to yet another JSON, but is its ``Artifact``.
3. Everything else is the JSON as it was passed: also a list of documents, an object with documents in it, and an output
   that a state machine merged into another (``ResultPath``). ``stepout.resolve_all(task.input)`` finds them all.

Documents are read and verified when the input is first asked for, within an allow-list.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

from stepout.callbacks.environment import InputUrl
from stepout.schemas import find_documents
from stepout.schemas.errors import ConfigurationError, InvalidDocumentError
from stepout.schemas.runtime.environment import meant_for
from stepout.schemas.search.traversal import called

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from stepout.artifacts.allow import Allowed, AnyBucket
    from stepout.artifacts.reading.artifact import Artifact

_MAX_JSON: Final = 64 << 20
"""The most that is read of an input that is JSON, in bytes."""


def is_document(value: Any) -> bool:
    """Return whether an input stands for something else: it is one pointer, one task output, or the URL of one.

    JSON that merely contains such documents is not one, nor is an output with another one merged into it: that is the
    job's own, which resolves what it wants.

    >>> is_document({"scene": 7}), is_document({"previous": {"stepout": "pointer/1"}})
    (False, False)
    >>> is_document({"stepout": "output/1", "artifacts": {}, "score": {"stepout": "output/1", "artifacts": {}}})
    False
    >>> is_document({"stepout": "pointer/1"}), is_document(InputUrl("s3://results/output.json"))
    (True, True)
    """
    if isinstance(value, InputUrl):
        return True
    if called(value) is None:  # most inputs; they are not searched
        return False
    try:
        return [found.location for found in find_documents(value)] == ["$"]
    except InvalidDocumentError:  # nested too deep, say: reading it tells
        return True


class TaskInput:
    """What a task was given, resolved once and when it is first asked for.

    Args:
        value: Parsed JSON, or an ``InputUrl``.
        allow: What a document may point to, as for ``resolve``; ``None``: what ``STEPOUT_ALLOW`` says.
        client: A boto3 S3 client, or a ``Store``, to read with; ``None``: one of our own.
        environ: Where ``STEPOUT_ALLOW`` is looked up.

    Raises:
        ConfigurationError: It is a document, and no allow-list says what it may point to, or the list cannot be read.
    """

    def __init__(
        self,
        value: Any,
        *,
        allow: Iterable[str | AnyBucket] | AnyBucket | Allowed | None = None,
        client: Any = None,
        environ: Mapping[str, str],
    ) -> None:
        self._value = value
        self._waiting = is_document(value)
        self._allowed = _allowed(allow, environ) if self._waiting or allow is not None else None
        self._client = client
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"TaskInput({'a document, not read yet' if self._waiting else 'read'})"

    def read(self) -> Any:
        """Return the input; a document is resolved by the first call.

        Raises:
            NotAllowedError: The document points outside the allow-list.
            TaskFailedError: It is the URL of a task's outcome, and that task failed.
            InvalidDocumentError: It is invalid, or what it points to is not the JSON that it claims to be.
            StoreError: What it points to is missing, denied, changed, expired, too large, or unreachable.
            IntegrityError: The bytes are not those that were written.
        """
        with self._lock:
            if self._waiting:
                self._value = self._resolved()
                self._waiting = False
            return self._value

    def _resolved(self) -> Any:
        from stepout.artifacts.reading.artifact import Artifact
        from stepout.artifacts.resolve import resolve

        found = resolve(self._value, allow=self._allowed, client=self._client)
        if not isinstance(found, Artifact) or not _is_json(found):
            return found
        value = found.read_json(max_size=_MAX_JSON)
        return resolve(value, allow=self._allowed, client=self._client) if is_document(value) else value


def _is_json(artifact: Artifact) -> bool:
    """JSON that did not fit into the state's parameters is JSON again; anything else is the job's to read."""
    kind = artifact.pointer.media_type.partition(";")[0].strip().lower()
    return kind == "application/json" or kind.endswith("+json")


def _allowed(allow: Iterable[str | AnyBucket] | AnyBucket | Allowed | None, environ: Mapping[str, str]) -> Allowed:
    from stepout.artifacts.allow import allowed_from, from_env

    if allow is not None:
        return allowed_from(allow)
    if environ.get("STEPOUT_ALLOW") is None:
        raise ConfigurationError(
            "the task's input is a pointer, a task output or a URL, and nothing says where it may point to"
            f"{meant_for(environ, 'STEPOUT_ALLOW')}: set "
            'STEPOUT_ALLOW to "s3://bucket/prefix/", or pass allow=["s3://bucket/prefix/"] to open_task (allow=[] if '
            "the job does not read its input). Nothing was read"
        )
    return from_env(environ)

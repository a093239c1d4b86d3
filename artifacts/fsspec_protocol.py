"""``stepout://NAME/PATH`` for what takes fsspec's URLs: the file system of the entry point ``fsspec.specs``.

It stands above the front door, since its options are a document and the keywords of ``resolve``.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

from stepout.artifacts.allow import AnyBucket
from stepout.artifacts.reading.files.fsspec_files import CommittedFileSystem
from stepout.artifacts.resolve import resolve
from stepout.artifacts.s3.clients import ReaderSettings
from stepout.schemas.errors import ConfigurationError
from stepout.schemas.output import OUTPUT_VERSION
from stepout.schemas.text.json_text import load_json

_FSSPECS_OWN: Final = frozenset(
    {"asynchronous", "loop", "batch_size", "use_listings_cache", "listings_expiry_time", "max_paths"}
)

_KEPT: Final = 32
"""So many file systems are shared by equal options; whoever has one keeps it."""


class StepoutFileSystem(CommittedFileSystem):
    """What ``fsspec.filesystem("stepout", **storage_options)`` is.

    Args:
        documents: A task output, a pointer (its file is called ``artifact``), or pointers by name: dictionaries or JSON
            text.
        allow: What they may point to, as for ``resolve_output``; ``STEPOUT_ALLOW`` is not asked.
        expected_bucket_owner: As for ``resolve_output``.
        endpoint_url: Where S3 is; ``None``: as the environment says.
        profile: The profile of the shared AWS configuration; ``None``: as the environment says.
        request_payer: As for ``resolve_output``.
        verify: As for ``resolve_output``.
        max_size: As for ``resolve_output``.

    Raises:
        ConfigurationError: ``documents`` or ``allow`` is missing, or an option is not known or invalid.
        InvalidDocumentError: The document is invalid.
        NotAllowedError: It points outside the allow-list.
    """

    # Shared by equal options of one thread, as fsspec does it: by their text, so each option has to be what it shows.
    cachable = True
    _cache: ClassVar[dict[str, Any]]  # fsspec's; each class has its own

    def __init__(  # noqa: PLR0913 - the options, each with its own meaning
        self,
        documents: object = None,
        allow: object = None,
        *,
        expected_bucket_owner: str | None = None,
        endpoint_url: str | None = None,
        profile: str | None = None,
        request_payer: str | None = None,
        verify: Any = True,
        max_size: int | None = None,
        **options: Any,
    ) -> None:
        unknown = sorted(set(options) - _FSSPECS_OWN)
        if unknown:
            msg = f"stepout://: the option {unknown[0]!r} is not known; credentials are those that this process finds"
            raise ConfigurationError(f"{msg}, or those of profile=. Nothing was read")
        resolved = resolve(
            _checked_documents(documents),
            allow=_checked_allow(allow),
            client=ReaderSettings(_checked_name("endpoint_url", endpoint_url), _checked_name("profile", profile)),
            expected_bucket_owner=expected_bucket_owner,
            request_payer=request_payer,
            verify=verify,
            max_size=max_size,
        )
        super().__init__(resolved.filesystem("fsspec").files, **options)
        if len(self._cache) >= _KEPT:  # fsspec never lets go of one, with its documents and its connections
            self.clear_instance_cache()


def _checked_documents(documents: object) -> object:
    if isinstance(documents, str | bytes):
        documents = load_json(documents, max_bytes=None)
    if not isinstance(documents, dict) or not documents:
        got = "none were passed" if documents is None else f"got {type(documents).__name__}"
        msg = "a task output, a pointer, or pointers by name, as JSON (output.document.to_dict()), and allow= beside it"
        raise ConfigurationError(f"stepout:// reads what documents name, and {got}. Pass documents= ({msg})")
    if "stepout" not in documents and all(isinstance(each, dict) for each in documents.values()):
        return {"stepout": OUTPUT_VERSION, "artifacts": documents}
    return documents


def _checked_allow(allow: Any) -> Any:
    if isinstance(allow, str | list | tuple | AnyBucket):
        return allow
    msg = 'where may the documents point? Pass allow=["s3://bucket/prefix/"] with them, or stepout.ANY_BUCKET'
    raise ConfigurationError(f"stepout://: {msg}; got {type(allow).__name__}. Nothing was read")


def _checked_name(option: str, value: object) -> str | None:
    if value is None or (isinstance(value, str) and value):
        return value
    raise ConfigurationError(f"stepout://: {option}={value!r}: expected text, or None")

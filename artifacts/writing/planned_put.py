"""Plans a put as a value: every setting is checked before a byte is read or sent."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypedDict, cast, get_args

from stepout.artifacts.blocks import WantedBlocks
from stepout.artifacts.checksums import best_crc
from stepout.artifacts.commit_record import (
    NAMED_DOCUMENTS,
    RECORD_NAME,
    RECORD_STEM,
    check_commit_record,
    record_key,
    recorded_task,
)
from stepout.artifacts.keys import artifact_key, document_key, run_folder
from stepout.artifacts.media_types import JSON, suffix_for
from stepout.artifacts.retention import KEEP_TAG, keep_of
from stepout.artifacts.run import rfc3339, utc_now
from stepout.artifacts.store import Regional
from stepout.artifacts.store_writes import Mode, pins_for_pointer
from stepout.artifacts.writing.options import with_keep, with_record
from stepout.schemas import Pointer, Problem, invalid_document, json_problems
from stepout.schemas.errors import ConfigurationError
from stepout.schemas.pointer import pointer_problems
from stepout.schemas.rules import POINTER_TEXTS
from stepout.schemas.text.json_value import plain_copy
from stepout.schemas.text.signed_urls import signed_url_problems

if TYPE_CHECKING:
    from stepout.artifacts.commit_record import CommitRecord
    from stepout.artifacts.keys import Layout
    from stepout.artifacts.run import Clock
    from stepout.artifacts.store import Store
    from stepout.artifacts.store_writes import WriteOptions
    from stepout.artifacts.transfer.conditional_write import Uploaded
    from stepout.schemas import RunIdentity

_KINDS: Final = 64
"""More kinds of puts than any job has: each is a media type with its options."""

_NO_CONTENT: Final = {"sha256": "0" * 64}


class PutOptions(TypedDict, total=False):
    """What every put accepts; ``None`` counts as absent.

    Attributes:
        media_type: In place of the one that follows from the value.
        annotations: Small JSON for the pointer, such as ``{"rows": 1000000}``.
        mode: ``"create"`` or ``"overwrite"``, in place of the manager's.
        expires_at: When a lifecycle rule removes the object: a ``datetime`` with its zone, or RFC 3339 with ``Z``.
        suffix: The key's file extension, such as ``".csv"``, in place of the one that follows from the value.
        blocks: The digests of stretches of an object, which let any range of it be verified without the rest.
            ``"crc"``, the default: CRC64NVME of 256 KiB each, or CRC32 without awscrt, next to free; they detect
            damage, not forgery. ``"sha256"``: SHA-256 of 1 MiB each, which hashes all bytes a second time. ``"none"``.
            Up to 256 bytes of them are in the pointer; more are an object of their own, one request more, or in the
            footer of a table.
        keep: How long the object is kept, such as ``"30d"``, in place of the manager's: the tag ``stepout-keep=30d``
            for the rules of ``stepout lifecycle``, and the pointer's ``expiresAt``. Not together with ``expires_at``.
    """

    media_type: str
    annotations: Mapping[str, Any]
    mode: Mode
    expires_at: datetime | str
    suffix: str
    blocks: Literal["crc", "sha256", "none"]
    keep: str | timedelta


class PlannedPut(NamedTuple):
    """One artifact to be written: every setting checked, nothing sent.

    Attributes:
        name: The artifact's name; ``None`` for an object that is no artifact of its own.
        label: The name in progress and messages.
        key: The object's key.
        options: The options of the write.
        draft: The pointer as far as it is known before the write.
        blocks: Which digests of its blocks are taken; ``None`` for none.
    """

    name: str | None
    label: str
    key: str
    options: WriteOptions
    draft: Pointer
    blocks: WantedBlocks | None

    def without_blocks(self) -> PlannedPut:
        """Return the same for an upload that takes no digests, because the bytes themselves hold them."""
        return self._replace(blocks=None)

    def for_earlier(self, last_modified: str | None) -> PlannedPut:
        """Return the same for an object that is there already: S3 counts ``keep`` from when that was written.

        Args:
            last_modified: As ``ObjectInfo`` has it.
        """
        keep = keep_of(self.options.tags.get(KEEP_TAG))
        if keep is None or last_modified is None or self.draft.expires_at is None:
            return self
        until = rfc3339(datetime.fromisoformat(last_modified) + keep)
        return self.until(min(until, self.draft.expires_at))

    def until(self, expires_at: str) -> PlannedPut:
        """Return the same with another time in the pointer."""
        return self._replace(draft=_with(self.draft, expires_at=expires_at))

    def pointer(self, uploaded: Uploaded, created_at: str, annotations: Mapping[str, Any] | None = None) -> Pointer:
        """Return the pointer of what was written.

        Args:
            uploaded: The result of the upload.
            created_at: The time, as text in a document's form.
            annotations: The put's own annotations, besides the caller's.
        """
        merged = {**(self.draft.annotations or {}), **(annotations or {})}
        etag, version_id = pins_for_pointer(uploaded.etag, uploaded.version_id)
        return _with(
            self.draft,
            size=uploaded.size,
            checksum=dict(uploaded.checksum),
            etag=etag,
            version_id=version_id,
            created_at=created_at,
            blocks=uploaded.blocks,
            annotations=merged or None,
        )


class PutPlanner:
    """Plans the puts of one manager.

    Args:
        store: Where artifacts go.
        prefix: What every key begins with.
        run: The run that writes, resolved.
        defaults: The options of every write.
        layout: Whether keys say which process of the run has written.
        commit_record: Whether every object says that it belongs to a task with a record.
        given: The same as far as somebody gave it.
        keep: How long every object is kept; ``None``: nobody said.
        clock: Where the time comes from that ``keep`` counts from.

    Attributes:
        folder: The run's folder of keys.
        keeps_record: Whether this manager is to keep the record.
        recorded: The task that every object says it belongs to; ``None``: none keeps a record.

    Raises:
        ConfigurationError: The layout or ``commit_record`` is invalid, or the metadata is more than S3 takes.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what decides keys and options
        self,
        store: Store,
        prefix: str,
        run: RunIdentity,
        defaults: WriteOptions,
        layout: Layout = "run",
        commit_record: CommitRecord = False,
        *,
        given: RunIdentity | None = None,
        keep: timedelta | None = None,
        clock: Clock = utc_now,
    ) -> None:
        self._store, self._unnamed = store, defaults
        self._keep, self._clock = keep, clock
        self.folder = run_folder(prefix, run, layout=layout)
        # Whoever gave the nonce may give it to another process as well.
        alone = layout == "run" and (given is None or given.nonce is None)
        self._writer = os.getpid() if alone else None
        self.keeps_record = check_commit_record(commit_record) is True
        self.recorded = recorded_task(self.folder, prefix, run) if commit_record else None
        # Of what a record names; without a record, of everything.
        self._defaults = defaults if self.recorded is None else with_record(defaults, self.recorded)
        # The record of another process's run in the same folder is replaced with the artifacts that it names.
        self._record_mode: Mode = "overwrite" if layout == "fixed" else defaults.mode
        # Checked plans by kind: ten thousand puts differ only in their keys.
        self._checked: dict[tuple[str, str], PlannedPut] = {}
        self._keeps: set[timedelta] = set()  # of all puts so far
        self._ends: set[str] = set()  # of those that say themselves when they end

    def plan(
        self, name: str, media_type: str, suffix: str, options: PutOptions, own: tuple[str, ...] = ()
    ) -> PlannedPut:
        """Plan an artifact.

        Args:
            name: The artifact's name.
            media_type: The value's media type; ``options`` may name another.
            suffix: The same for the key's extension.
            options: The caller's.
            own: Annotations that the put itself adds later.

        Raises:
            InvalidDocumentError: The name, the media type, an annotation or a time is invalid.
            ConfigurationError: The suffix, the mode or an option is invalid.
        """
        if self.recorded is not None and name == RECORD_STEM:
            taken = Problem(f"$.artifacts.{name}", "name", "is the name of the task's record: choose another")
            raise invalid_document(f"artifact {name!r}", [taken], "Nothing was read or sent.")
        if not options:
            return self._planned(name, name, artifact_key(self.folder, name, suffix), media_type, options)
        options = _known(options)
        key = artifact_key(self.folder, name, _suffix(options, suffix))
        if "keep" in options and "expires_at" in options:
            raise ConfigurationError(f"artifact {name!r} has both keep and expires_at: pass one. Nothing was sent")
        annotations = options.get("annotations")
        if annotations is not None and not isinstance(annotations, Mapping):
            msg = f"annotations of artifact {name!r} are of type {type(annotations).__name__}: expected a dict"
            raise ConfigurationError(f"{msg} such as {{'rows': 3}}. Nothing was read or sent")
        clash = sorted(set(own) & set(annotations)) if annotations else []
        if clash:
            raise ConfigurationError(
                f"annotations: {', '.join(clash)} of artifact {name!r} are written by the put itself"
            )
        return self._planned(name, name, key, options.get("media_type", media_type), options)

    def plan_document(self, stem: str) -> PlannedPut:
        """Plan a JSON document beside the artifacts.

        Raises:
            ConfigurationError: The stem could be an artifact's name.
        """
        planned = self._planned(None, stem, document_key(self.folder, stem), JSON, self._as_long_as_all())
        return planned if stem in NAMED_DOCUMENTS else self._without_task(planned)

    def plan_record(self) -> PlannedPut:
        """Plan the task's record: one request, whatever its size."""
        options: PutOptions = {"mode": self._record_mode, **self._as_long_as_all()}
        planned = self._planned(None, RECORD_NAME, record_key(self.folder), JSON, options)
        return self._without_task(planned).without_blocks()

    def _as_long_as_all(self) -> PutOptions:
        """Return how long what names other objects is kept: clean-up takes what nothing names any more."""
        if self._keep is None:
            return {}
        longest = max({self._keep, *self._keeps})
        if not self._ends:
            return {"keep": longest}
        return {"expires_at": max(*self._ends, rfc3339(self._clock() + longest))}  # no tag: no rule takes it sooner

    def _without_task(self, planned: PlannedPut) -> PlannedPut:
        return planned._replace(options=replace(planned.options, metadata=self._unnamed.metadata))

    def plan_file(self, parent: PlannedPut, label: str, key: str, media_type: str) -> PlannedPut:
        """Plan an object that belongs to an artifact, such as a file of a directory."""
        options: PutOptions = {"mode": parent.options.mode}
        if parent.draft.expires_at is not None:
            options["expires_at"] = parent.draft.expires_at
        if KEEP_TAG in parent.options.tags:
            options["keep"] = parent.options.tags[KEEP_TAG]
        return self._planned(None, label, key, media_type, options)._replace(blocks=parent.blocks)

    def _planned(self, name: str | None, label: str, key: str, media_type: str, options: PutOptions) -> PlannedPut:
        if options.get("annotations") is not None or not isinstance(media_type, str):
            return self._check(name, label, key, media_type, options)
        kind = (media_type, repr(options) if options else "")
        known = self._checked.get(kind)
        if known is not None and POINTER_TEXTS["key"].accepts(key):
            draft = _with(known.draft, key=key)
            if options or self._keep is not None:
                draft = _with(draft, expires_at=self._expiry(options)[1])
            return PlannedPut(name, label, key, known.options, draft, known.blocks)
        planned = self._check(name, label, key, media_type, options)
        if len(self._checked) < _KINDS:
            self._checked[kind] = planned
        return planned

    def _check(self, name: str | None, label: str, key: str, media_type: str, options: PutOptions) -> PlannedPut:
        annotations = options.get("annotations")
        if annotations is not None:
            if wrong := json_problems(annotations, "$.annotations", convertible=True):
                raise invalid_document(f"the pointer of artifact {label!r}", wrong, "Nothing was read or sent.")
            annotations = plain_copy(annotations)
        keep, expires_at = self._expiry(options)
        draft = Pointer(
            bucket=self._store.bucket,
            key=key,
            size=0,
            checksum=_NO_CONTENT,
            media_type=media_type,
            bucket_owner=self._defaults.expected_bucket_owner,
            region=self._store.region if isinstance(self._store, Regional) else None,
            expires_at=expires_at,
            annotations=annotations,
        )
        document = draft.to_dict()
        problems = json_problems(document) or list(pointer_problems(document))
        if not problems and annotations:
            problems = list(signed_url_problems(document["annotations"], "$.annotations"))
        if problems:
            raise invalid_document(f"the pointer of artifact {label!r}", problems, "Nothing was read or sent.")
        mode = check_mode(options.get("mode", self._defaults.mode))
        written = replace(self._defaults, media_type=media_type, mode=mode)
        if keep is not None:
            written = with_keep(written, keep)
            self._keeps.add(keep)
        elif expires_at is not None:
            self._ends.add(expires_at)
        return PlannedPut(name, label, key, written, draft, self._wanted(options.get("blocks", "crc")))

    def _expiry(self, options: PutOptions) -> tuple[timedelta | None, str | None]:
        """Return how long an object is kept, and until when: from now on, since S3 counts an upload from its begin."""
        expires_at, keep = _time(options.get("expires_at")), keep_of(options.get("keep"))
        if expires_at is None:
            keep = keep or self._keep
            expires_at = None if keep is None else rfc3339(self._clock() + keep)
        return keep, expires_at

    def _wanted(self, blocks: object) -> WantedBlocks | None:
        if blocks == "none":
            return None
        if blocks not in ("crc", "sha256"):
            msg = f"blocks is {blocks!r}: expected 'crc', 'sha256' or 'none'. Nothing was read or sent"
            raise ConfigurationError(msg)
        return WantedBlocks("sha256" if blocks == "sha256" else best_crc(), self.folder, self._writer)


def check_mode(mode: object) -> Mode:
    """Return a write mode.

    Raises:
        ConfigurationError: The mode is invalid.
    """
    if mode in get_args(Mode):
        return cast("Mode", mode)
    raise ConfigurationError(f"mode is {mode!r}: expected 'create' (write once) or 'overwrite' (replace)")


def _known(options: PutOptions) -> PutOptions:
    """Return the options that are not ``None``."""
    given = cast("PutOptions", {name: value for name, value in options.items() if value is not None})
    unknown = ", ".join(sorted(set(given) - set(PutOptions.__annotations__)))
    if unknown:
        raise ConfigurationError(f"put does not know {unknown}; it takes {', '.join(PutOptions.__annotations__)}")
    return given


def _with(pointer: Pointer, **changes: Any) -> Pointer:
    """Return a pointer with other members; ``dataclasses.replace`` takes as long as a signature."""
    changed = object.__new__(Pointer)
    changed.__dict__.update(pointer.__dict__, **changes)
    return changed


def _suffix(options: PutOptions, default: str) -> str:
    if "suffix" in options:
        return options["suffix"]
    media_type = options.get("media_type")
    # A suffix that is not text is refused when the pointer is made.
    return (suffix_for(media_type) or default) if isinstance(media_type, str) else default


def _time(value: datetime | str | None) -> str | None:
    if not isinstance(value, datetime):
        return value
    if value.tzinfo is None:
        raise ConfigurationError("expires_at has no time zone: pass datetime(..., tzinfo=UTC). Nothing was sent")
    return rfc3339(value)

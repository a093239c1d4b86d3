"""The one way from a value to a committed artifact: check, reserve the name, upload, record the pointer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypedDict, cast, get_args

from stepout.artifacts.keys import artifact_key, check_name, check_suffix
from stepout.artifacts.media_types import suffix_for
from stepout.artifacts.run import rfc3339
from stepout.artifacts.store import Mode, etag_for_pointer, version_for_pointer
from stepout.artifacts.transfer.progress import for_artifact
from stepout.artifacts.transfer.upload import Upload
from stepout.schemas import Pointer, invalid_document, json_problems
from stepout.schemas.errors import ConfigurationError
from stepout.schemas.pointer import pointer_problems
from stepout.schemas.rules import POINTER_TEXTS
from stepout.schemas.runtime.process import Home
from stepout.schemas.text.json_value import plain_copy
from stepout.schemas.text.signed_urls import signed_url_problems

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stepout.artifacts.run import Clock
    from stepout.artifacts.store import Store, WriteOptions
    from stepout.artifacts.transfer.conditional_write import Uploaded
    from stepout.artifacts.transfer.plan import TransferSettings
    from stepout.artifacts.transfer.progress import Progress
    from stepout.artifacts.writing.name_registry import NameRegistry

_STEM: Final = re.compile(r"[A-Za-z0-9_]+(?:-[A-Za-z0-9_]+)+")
_ALIKE: Final = 64
_NO_CONTENT: Final = {"sha256": "0" * 64}


class PutOptions(TypedDict, total=False):
    """What every put accepts; ``None`` counts as absent.

    Attributes:
        media_type: In place of the one that follows from the value.
        annotations: Small JSON for the pointer, such as ``{"rows": 1000000}``.
        mode: ``"create"`` or ``"overwrite"``, in place of the manager's.
        expires_at: When a lifecycle rule removes the object: a ``datetime`` with its zone, or RFC 3339 with ``Z``.
        suffix: The key's file extension, such as ``".csv"``, in place of the one that follows from the value.
    """

    media_type: str
    annotations: Mapping[str, Any]
    mode: Mode
    expires_at: datetime | str
    suffix: str


class PlannedPut(NamedTuple):
    """One artifact to be written: every setting checked, nothing sent.

    Attributes:
        name: The artifact's name; ``None`` for an object that is no artifact of its own.
        label: What progress and messages call it.
        key: The object's key.
        options: What rides along with the write.
        draft: The pointer as far as it is known before the write.
    """

    name: str | None
    label: str
    key: str
    options: WriteOptions
    draft: Pointer


@dataclass(frozen=True, kw_only=True)
class Writes:
    """What a manager's writes share.

    Attributes:
        store: Where artifacts go.
        folder: The run's folder of keys.
        defaults: What rides along with every write.
        settings: How much one transfer may use.
        ledger: Names, pointers and open uploads.
        clock: Where ``createdAt`` comes from.
        progress: Called as bytes go out.
        home: The process that a task reports from; any, as long as there is no task.
    """

    store: Store
    folder: str
    defaults: WriteOptions
    settings: TransferSettings
    ledger: NameRegistry
    clock: Clock
    progress: Progress | None = None
    home: Home = field(default_factory=lambda: Home(claimed=False), repr=False, compare=False)
    _alike: dict[tuple[str, str, str], PlannedPut] = field(default_factory=dict, repr=False, compare=False)

    def target(
        self, name: str, media_type: str, suffix: str, options: PutOptions, own: tuple[str, ...] = ()
    ) -> PlannedPut:
        """Check one put before a byte is read.

        Args:
            name: The artifact's name.
            media_type: What follows from the value; ``options`` may say otherwise.
            suffix: The same for the key's extension.
            options: The caller's.
            own: Annotations that the put itself adds later.

        Raises:
            InvalidDocumentError: The name, the media type, an annotation or a time is not what a pointer can hold.
            ConfigurationError: The suffix, the mode or an option is none.
            OtherProcessError: This process was forked off the task's.
        """
        self.check_process(f"writing artifact {name!r}")
        if options:
            options = _known(options)
        key = artifact_key(self.folder, check_name(name), check_suffix(_suffix(options, suffix)))
        annotations = options.get("annotations")
        if annotations is not None and not isinstance(annotations, Mapping):
            msg = f"annotations of artifact {name!r} are of type {type(annotations).__name__}: expected a dict"
            raise ConfigurationError(f"{msg} such as {{'rows': 3}}. Nothing was read or sent")
        clash = sorted(set(own) & set(annotations)) if annotations else []
        if clash:
            raise ConfigurationError(
                f"annotations: {', '.join(clash)} of artifact {name!r} are written by the put itself"
            )
        return self._checked(name, name, key, options.get("media_type", media_type), options)

    def check_process(self, action: str) -> None:
        """Raise in a process that was forked off the task's: its pointers would be lost there.

        Raises:
            OtherProcessError: It was. Nothing was read or sent.
        """
        self.home.check(action, "task and its artifact manager")

    def document_target(self, stem: str, media_type: str) -> PlannedPut:
        """Check a document beside the artifacts.

        Raises:
            ConfigurationError: The stem could be an artifact's name.
        """
        self.check_process(f"writing the document {stem!r}")
        if not _STEM.fullmatch(stem):
            msg = f"document stem {stem!r}: expected words joined by hyphens, which no artifact name has"
            raise ConfigurationError(msg)
        return self._checked(None, stem, artifact_key(self.folder, stem, ".json"), media_type, {})

    def file_target(self, parent: PlannedPut, label: str, key: str, media_type: str) -> PlannedPut:
        """Describe an object that belongs to an artifact, such as a file of a directory."""
        options: PutOptions = {"mode": parent.options.mode}
        if parent.draft.expires_at is not None:
            options["expires_at"] = parent.draft.expires_at
        return self._checked(None, label, key, media_type, options)

    def put(
        self, target: PlannedPut, send: Callable[[Upload], Uploaded], annotations: Mapping[str, Any] | None = None
    ) -> Pointer:
        """Write one artifact in one go.

        Args:
            target: From ``target``.
            send: Sends the bytes and commits.
            annotations: What the put itself has to say.

        Raises:
            ArtifactExistsError: The name is taken, or the key holds something else.
            StoreError: The write failed; nothing was kept.
        """
        self.reserve(target)
        try:
            upload = self.start(target)
            try:
                return self.record(target, send(upload), annotations)
            except BaseException:
                upload.abort()
                raise
            finally:
                self.ledger.untrack(upload)
        except BaseException:
            self.release(target)
            raise

    @contextmanager
    def reserved(self, target: PlannedPut) -> Iterator[None]:
        """Hold the target's name; an exception gives it back."""
        self.reserve(target)
        try:
            yield
        except BaseException:
            self.release(target)
            raise

    def reserve(self, target: PlannedPut) -> None:
        """Take the target's name; see ``NameRegistry.reserve``."""
        if target.name is not None:
            self.ledger.reserve(target.name, target.options.mode)

    def release(self, target: PlannedPut) -> None:
        """Give the target's name back."""
        if target.name is not None:
            self.ledger.release(target.name)

    def start(self, target: PlannedPut, report: Callable[[int, int | None], None] | None = None) -> Upload:
        """Open the target's upload; nothing is sent before its first part is full.

        Args:
            target: From ``target``.
            report: Hears of the bytes that are sent, in place of what would hear of them under the target's name.
        """
        report = report or for_artifact(self.progress, target.label)
        upload = Upload(self.store, target.key, options=target.options, settings=self.settings, progress=report)
        self.ledger.track(upload)
        return upload

    @contextmanager
    def upload(self, target: PlannedPut, report: Callable[[int, int | None], None] | None = None) -> Iterator[Upload]:
        """Open the target's upload, as ``start`` does; an exception aborts it."""
        upload = self.start(target, report)
        try:
            yield upload
        except BaseException:
            upload.abort()
            raise
        finally:
            self.ledger.untrack(upload)

    def record(self, target: PlannedPut, uploaded: Uploaded, annotations: Mapping[str, Any] | None = None) -> Pointer:
        """Make the pointer of what was written, and record it under the target's name."""
        merged = {**(target.draft.annotations or {}), **(annotations or {})}
        pointer = _with(
            target.draft,
            size=uploaded.size,
            checksum=dict(uploaded.checksum),
            etag=etag_for_pointer(uploaded.etag),
            version_id=version_for_pointer(uploaded.version_id),
            created_at=rfc3339(self.clock()),
            annotations=merged or None,
        )
        if target.name is not None:
            self.ledger.commit(target.name, pointer)
        return pointer

    def _checked(self, name: str | None, label: str, key: str, media_type: str, options: PutOptions) -> PlannedPut:
        """Check what a pointer will hold; for the same settings once, since ten thousand puts differ in keys alone."""
        annotations, kind = options.get("annotations"), None
        if annotations is None and isinstance(media_type, str):
            kind = (media_type, str(options.get("mode")), str(options.get("expires_at")))
            known = self._alike.get(kind)
            if known is not None and POINTER_TEXTS["key"].accepts(key):
                return PlannedPut(name, label, key, known.options, _with(known.draft, key=key))
        target = self._checked_anew(name, label, key, media_type, options)
        if kind is not None and len(self._alike) < _ALIKE:
            self._alike[kind] = target
        return target

    def _checked_anew(self, name: str | None, label: str, key: str, media_type: str, options: PutOptions) -> PlannedPut:
        annotations = options.get("annotations")
        if annotations is not None:
            if wrong := json_problems(annotations, "$.annotations", convertible=True):
                raise invalid_document(f"the pointer of artifact {label!r}", wrong, "Nothing was read or sent.")
            annotations = plain_copy(annotations)
        draft = Pointer(
            bucket=self.store.bucket,
            key=key,
            size=0,
            checksum=_NO_CONTENT,
            media_type=media_type,
            bucket_owner=self.defaults.expected_bucket_owner,
            region=getattr(self.store, "region", None),
            expires_at=_time(options.get("expires_at")),
            annotations=annotations,
        )
        document = draft.to_dict()
        problems = json_problems(document) or list(pointer_problems(document))
        if not problems and annotations:
            problems = list(signed_url_problems(document["annotations"], "$.annotations"))
        if problems:
            raise invalid_document(f"the pointer of artifact {label!r}", problems, "Nothing was read or sent.")
        mode = check_mode(options.get("mode", self.defaults.mode))
        written = replace(self.defaults, media_type=media_type, mode=mode)
        return PlannedPut(name=name, label=label, key=key, options=written, draft=draft)


def check_mode(mode: object) -> Mode:
    """Return a write mode if it is one.

    Raises:
        ConfigurationError: It is none.
    """
    if mode in get_args(Mode):
        return cast("Mode", mode)
    raise ConfigurationError(f"mode is {mode!r}: expected 'create' (write once) or 'overwrite' (replace)")


def _known(options: PutOptions) -> PutOptions:
    """Return the options that are there."""
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
    # One that is not text is the pointer's to refuse.
    return (suffix_for(media_type) or default) if isinstance(media_type, str) else default


def _time(value: datetime | str | None) -> str | None:
    if not isinstance(value, datetime):
        return value
    if value.tzinfo is None:
        raise ConfigurationError("expires_at has no time zone: pass datetime(..., tzinfo=UTC). Nothing was sent")
    return rfc3339(value)

"""The artifact manager: what a task writes its results through."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from stepout.artifacts.keys import check_prefix, run_folder
from stepout.artifacts.media_types import DEFAULT, JSON
from stepout.artifacts.run import resolve_run, utc_now
from stepout.artifacts.s3.clients import payer_from_env, profile_from_env, store_for
from stepout.artifacts.transfer.progress import progress_from
from stepout.artifacts.writing import adopt as adoption
from stepout.artifacts.writing.name_registry import NameRegistry
from stepout.artifacts.writing.options import (
    check_bucket,
    check_client,
    check_profile,
    check_transfer,
    place_of,
    write_options,
)
from stepout.artifacts.writing.puts import Puts
from stepout.artifacts.writing.writes import Writes, check_mode
from stepout.schemas import RunIdentity, dump_json
from stepout.schemas.errors import ConfigurationError, StoreError
from stepout.schemas.runtime.environment import meant_for, warn_of_unknown
from stepout.schemas.runtime.process import not_picklable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import NoReturn, Self, Unpack

    from stepout.artifacts.keys import Layout
    from stepout.artifacts.run import Clock, Random
    from stepout.artifacts.store import Encryption, Mode, Store, StoreProfile
    from stepout.artifacts.transfer.plan import TransferSettings
    from stepout.artifacts.transfer.progress import ProgressSetting
    from stepout.artifacts.writing.options import ObjectLock
    from stepout.artifacts.writing.writes import PutOptions
    from stepout.schemas import Pointer


class ArtifactManager(Puts):
    """Writes artifacts to one bucket and returns their pointers.

    Every artifact is whole or absent, written once, and hashed on its way. All methods may be called from several
    threads, for different names. Every put takes ``media_type=``, ``annotations=``, ``mode=``, ``expires_at=`` and
    ``suffix=`` (``PutOptions``), returns a ``Pointer``, and raises

    - ``InvalidDocumentError`` (a ``ValueError``) for a name that is no artifact name, before anything is read;
    - ``ArtifactExistsError`` for a name that this manager wrote already, before anything is read, and for a key that
      holds other content;
    - ``ConfigurationError`` (a ``ValueError``) for a value that the format cannot hold, before anything is sent;
    - ``StoreError`` and its subclasses where the store refuses or fails. A put that failed frees its name;
    - ``OtherProcessError`` where the manager is a task's and this process was forked off the task's, before anything is
      read: the report would not have it. Such a process makes a manager of its own, and the task's ``adopt``s what that
      wrote. Without a task, a forked process may go on with its copy of a manager, under other names, and pass on the
      pointers that it gets: ``pointers`` of the parent does not have them. A manager is not pickled.

    Signals are a task's matter (``stepout.open_task``). Without one, SIGTERM ends the process as it ends any other:
    nothing is committed, and parts that were sent wait for the bucket's ``AbortIncompleteMultipartUpload`` rule.

    Args:
        bucket: A bucket's name, an access point's ARN, ``s3://bucket/prefix``, or a ``Store`` such as ``MemoryStore``.
        prefix: What every key begins with.
        client: A boto3 S3 client, used as it is; ``None``: one is built from the environment.
        run: Which run writes; completed as ``resolve_run`` says.
        mode: ``"create"`` writes once, ``"overwrite"`` replaces.
        encryption: ``Encryption(…)``, ``"AES256"``, ``"aws:kms"``, or the ARN or alias of a KMS key.
        tags: At most 10.
        metadata: At most 2,048 bytes of printable ASCII.
        expected_bucket_owner: An account id; S3 refuses the writes if the bucket belongs to another one.
        storage_class: For example ``"STANDARD_IA"``; none whose objects have to be restored before they can be read.
        object_lock: Retention and legal hold of every object.
        request_payer: ``"requester"`` where the requester pays; ``None``: what ``STEPOUT_REQUEST_PAYER`` says.
        layout: ``"run"``: keys that no other process has. ``"fixed"``: the same without the nonce, so that keys can be
            computed beforehand; a second process of the same attempt (a redrive, a retry of Batch or EKS, a redelivered
            message, a loop in the state machine) then collides with the first and gets ``ArtifactExistsError``.
        profile: ``"aws"``, ``"compatible"``, ``"unconditional"``, ``"no-checksums"`` (the last two also together, with
            a space) or a ``StoreProfile``; ``None``: what ``STEPOUT_S3_PROFILE`` says.
        settings: Memory and connections of one transfer.
        progress: A callable ``(name, done, total)``; ``"auto"`` or ``True`` for a bar on a terminal.
        clock: Returns the time, with its zone.
        random: Returns so many random bytes.

    Raises:
        ConfigurationError: A setting is missing, outside its limits, or contradicts another. Nothing was sent.

    >>> from stepout.artifacts.memory import MemoryStore
    >>> pointer = ArtifactManager(MemoryStore("results")).put("answer", {"value": 42})
    >>> pointer.media_type, pointer.size
    ('application/json', 12)
    """

    def __init__(  # noqa: PLR0913 - one keyword for each setting
        self,
        bucket: str | Store,
        prefix: str = "",
        *,
        client: Any = None,
        run: RunIdentity | None = None,
        mode: Mode = "create",
        encryption: Encryption | str | None = None,
        tags: Mapping[str, str] | None = None,
        metadata: Mapping[str, str] | None = None,
        expected_bucket_owner: str | None = None,
        storage_class: str | None = None,
        object_lock: ObjectLock | None = None,
        request_payer: str | None = None,
        layout: Layout = "run",
        profile: StoreProfile | str | None = None,
        settings: TransferSettings | None = None,
        progress: ProgressSetting = None,
        clock: Clock = utc_now,
        random: Random | None = None,
    ) -> None:
        defaults = write_options(
            mode=check_mode(mode),
            encryption=encryption,
            tags=tags,
            metadata=metadata,
            storage_class=storage_class,
            expected_bucket_owner=expected_bucket_owner,
            object_lock=object_lock,
            request_payer=request_payer,
        )
        self._run = resolve_run(run, clock=clock, random=random)
        self._client = client
        self._reach: Any = {
            "profile": check_profile(profile),
            "expected_bucket_owner": expected_bucket_owner,
            "request_payer": request_payer,
            "near": self._run.execution,
        }
        store, prefix = self._store_of(bucket, prefix)
        self._outbox = Writes(
            store=store,
            folder=run_folder(prefix, self._run, layout=layout),
            defaults=defaults,
            settings=check_transfer(settings),
            ledger=NameRegistry(),
            clock=clock,
            progress=progress_from(progress),
        )

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> Self:
        """Build a manager from the environment.

        Args:
            environ: ``None``: ``os.environ``. Read are ``STEPOUT_BUCKET`` (a name or ``s3://bucket/prefix``),
                ``STEPOUT_PREFIX``, ``STEPOUT_EXECUTION``, ``_STATE``, ``_ATTEMPT``, ``_MAP_INDEX``, ``_REDRIVE``,
                ``STEPOUT_S3_PROFILE`` and ``STEPOUT_REQUEST_PAYER``; an empty variable counts as absent.
            overrides: Arguments of ``ArtifactManager`` that win over the environment.

        Raises:
            ConfigurationError: There is no bucket, or a variable holds what it cannot.
        """
        found = os.environ if environ is None else environ
        warn_of_unknown(found)
        bucket = overrides.pop("bucket", None) or found.get("STEPOUT_BUCKET")
        if not bucket:
            msg = (
                "no bucket for artifacts: set STEPOUT_BUCKET to a bucket's name or to s3://bucket/prefix (in the task "
                "definition, or in the state's container overrides), or pass bucket="
            )
            raise ConfigurationError(msg + meant_for(found, "STEPOUT_BUCKET"))
        if overrides.get("prefix") is None:
            overrides["prefix"] = found.get("STEPOUT_PREFIX") or ""
        if overrides.get("run") is None:
            overrides["run"] = RunIdentity.from_env(found)
        if overrides.get("profile") is None:
            overrides["profile"] = profile_from_env(found)
        if overrides.get("request_payer") is None:
            overrides["request_payer"] = payer_from_env(found)
        return cls(bucket, **overrides)

    def __reduce__(self) -> NoReturn:
        not_picklable("artifact manager")

    def __repr__(self) -> str:
        return f"ArtifactManager('{self.url}', {len(self.pointers)} artifacts)"

    @property
    def run(self) -> RunIdentity:
        """Which run writes, resolved; another manager with the same run makes the same keys."""
        return self._run

    @property
    def bucket(self) -> str:
        """The bucket's name, or the ARN of an access point."""
        return self._outbox.store.bucket

    @property
    def url(self) -> str:
        """The folder of everything that this manager writes, ``s3://bucket/prefix/…/``."""
        return f"s3://{self.bucket}/{self._outbox.folder}/"

    @property
    def pointers(self) -> Mapping[str, Pointer]:
        """Every artifact committed so far, by name, in order; a copy."""
        return self._outbox.ledger.pointers

    @property
    def unfinished(self) -> list[str]:
        """The names of artifacts that were opened and not committed, but for those whose writer was aborted, sorted."""
        return self._outbox.ledger.unfinished

    # What is there already, and what is no artifact --------------------------------------------------------------

    def adopt(
        self,
        name: str,
        url: str,
        verify: adoption.Verify = "s3",
        *,
        version_id: str | None = None,
        **options: Unpack[PutOptions],
    ) -> Pointer:
        """Name an object that is there already, pinned to its version, without moving a byte of it.

        Args:
            name: The artifact's name.
            url: ``s3://bucket/key``, in any bucket that this manager's client may read.
            verify: ``"s3"``: take the full-object checksum that S3 keeps (one HEAD). ``"read"``: hash it in one read.
            version_id: The version to adopt; ``None``: the newest.
            options: See ``PutOptions``.

        Raises:
            ArtifactNotFoundError: There is no such object.
            ConfigurationError: S3 keeps no checksum of it that a pointer can hold.
        """
        bucket, key = adoption.check_location(url, verify)
        target = self._outbox.target(name, DEFAULT, "", options)
        with self._outbox.reserved(target):
            store = self._other_store(bucket)
            info, checksum = adoption.inspect(store, key, verify=verify, version_id=version_id)
            pointer = adoption.of_object(target.draft, key, bucket, info, checksum)
            self._outbox.ledger.commit(name, pointer)
        return pointer

    def put_document(self, stem: str, document: Mapping[str, Any]) -> Pointer:
        """Write JSON beside the artifacts without naming it one.

        Args:
            stem: Words joined by hyphens, which no artifact name has.
            document: JSON.
        """
        target = self._outbox.document_target(stem, JSON)
        data = dump_json(dict(document))
        return self._outbox.put(target, lambda upload: upload.send_buffer(data))

    def keep_to_this_process(self) -> None:
        """Refuse to write in every process that is forked off this one: a task does this, which reports from here."""
        self._outbox.home.claim()

    # The end -----------------------------------------------------------------------------------------------------

    def abort(self) -> None:
        """Refuse new writes and abort every open one, at once; from any thread, idempotent.

        What a process that this one was forked off is writing goes on.
        """
        self._outbox.ledger.end("was aborted", aborted=True)

    def close(self) -> None:
        """Refuse new artifacts; idempotent.

        Raises:
            StoreError: A writer was still open, and is aborted; or one was lost, and its name not written since.
        """
        ledger = self._outbox.ledger
        unfinished = [] if ledger.ended else ledger.unfinished
        ledger.end("is closed", aborted=False)
        if unfinished:
            names = ", ".join(unfinished)
            raise StoreError(
                f"not committed when the artifact manager was closed: {names}; nothing of it was kept. Open it in a "
                "with block, close it, or call its writer's abort() to do without it"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    # Inside ------------------------------------------------------------------------------------------------------

    def _store_of(self, bucket: str | Store, prefix: str) -> tuple[Store, str]:
        if not isinstance(bucket, str) and hasattr(bucket, "start_upload"):
            if self._client is not None:
                raise ConfigurationError(
                    "bucket is a store already: pass a bucket's name with client=, or the store alone"
                )
            self._client = bucket
            check_bucket(bucket.bucket)
            return bucket, check_prefix(prefix)
        name, prefix = place_of(bucket, prefix)
        return store_for(check_client(self._client), name, **self._reach), prefix

    def _other_store(self, bucket: str) -> Store:
        return self._outbox.store if bucket == self.bucket else store_for(self._client, bucket, **self._reach)

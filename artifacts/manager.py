"""The artifact manager: a task writes its results through it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal, overload

from stepout.artifacts import writing
from stepout.artifacts.formats.row_groups import ROW_GROUP_BYTES
from stepout.artifacts.media_types import DEFAULT, JSON, TEXT
from stepout.artifacts.retention import keep_of
from stepout.artifacts.run import resolve_run, utc_now
from stepout.artifacts.transfer.progress import progress_from
from stepout.artifacts.writing import values
from stepout.artifacts.writing.buckets import Buckets, check_profile
from stepout.artifacts.writing.file import put_file
from stepout.artifacts.writing.name_registry import NameRegistry
from stepout.artifacts.writing.options import check_transfer, settings_from_env, write_options
from stepout.artifacts.writing.planned_put import PutOptions, PutPlanner, check_mode
from stepout.artifacts.writing.resume import ResumeFrom, ResumePlace
from stepout.artifacts.writing.writes import Writes
from stepout.schemas import dump_json
from stepout.schemas.runtime.listening import events_here
from stepout.schemas.runtime.process import not_picklable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import timedelta
    from types import TracebackType
    from typing import NoReturn, Self, Unpack

    from stepout.artifacts.commit_record import CommitRecord
    from stepout.artifacts.keys import Layout
    from stepout.artifacts.run import Clock, Random
    from stepout.artifacts.store import Store
    from stepout.artifacts.store_writes import Encryption, Mode, StoreProfile
    from stepout.artifacts.transfer.plan import TransferSettings
    from stepout.artifacts.transfer.progress import ProgressSetting
    from stepout.artifacts.writing.adopt import Verify as AdoptionVerify
    from stepout.artifacts.writing.dataset import HasManifest
    from stepout.artifacts.writing.options import ObjectLock
    from stepout.artifacts.writing.writer import ArtifactTextWriter, ArtifactWriter
    from stepout.schemas import Pointer, RunIdentity
    from stepout.schemas.runtime.events import Events


class ArtifactManager:
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
      read: the report would not contain the artifact. Such a process should make its own manager; the task's manager
      then ``adopt``s what that one wrote. Without a task, a forked process may go on with its copy of a manager, under
      other names, and pass on its pointers: the parent's ``pointers`` lacks them. A manager is not pickled.

    A task handles signals (``stepout.open_task``). Without a task, SIGTERM ends the process as it ends any other:
    nothing is committed, and parts that were sent wait for the bucket's ``AbortIncompleteMultipartUpload`` rule.

    Args:
        bucket: A bucket's name, an access point's ARN, ``s3://bucket/prefix``, or a ``Store`` such as ``MemoryStore``.
        prefix: What every key begins with.
        client: A boto3 S3 client, used as it is; ``None``: one is built from the environment.
        run: The run that writes. What it leaves out is made up: a nonce, and a run id where it has no execution.
        mode: ``"create"`` writes once, ``"overwrite"`` replaces.
        encryption: ``Encryption(…)``, ``"AES256"``, ``"aws:kms"``, or the ARN or alias of a KMS key.
        tags: At most 10.
        keep: How long objects are kept, such as ``"30d"``; see ``PutOptions``. ``None``: nobody says.
        metadata: At most 2,048 bytes of printable ASCII.
        expected_bucket_owner: An account id; S3 refuses the writes if the bucket belongs to another one.
        storage_class: For example ``"STANDARD_IA"``; not a class whose objects must be restored before reading.
        object_lock: Retention and legal hold of every object.
        request_payer: ``"requester"`` where the requester pays; ``None``: what ``STEPOUT_REQUEST_PAYER`` says.
        layout: ``"run"``: keys that no other process has. ``"fixed"``: the same without the nonce, so that keys can be
            computed beforehand; a second process of the same attempt (a redrive, a retry of Batch or EKS, a redelivered
            message, a loop in the state machine) then collides with the first and gets ``ArtifactExistsError``.
        commit_record: Whether every object says in its metadata that it belongs to a task whose record names it, which
            ``put_record`` writes at the end; ``"parent"``: another process does. No artifact is named ``_output`` then.
        profile: ``"aws"``, ``"compatible"``, ``"unconditional"``, ``"no-checksums"`` (the last two also together, with
            a space) or a ``StoreProfile``; ``None``: what ``STEPOUT_S3_PROFILE`` says.
        settings: Memory and connections of one transfer.
        progress: A callable ``(name, done, total)``; ``"auto"`` or ``True`` for a bar on a terminal.
        events: Who is told of each put; ``None``: the task that it is made in, or nobody yet.
        clock: Returns the time, with its zone.
        random: Returns so many random bytes.

    Raises:
        ConfigurationError: A setting is missing, outside its limits, or contradicts another. Nothing was sent.

    >>> from stepout.testing import MemoryStore
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
        keep: str | timedelta | None = None,
        metadata: Mapping[str, str] | None = None,
        expected_bucket_owner: str | None = None,
        storage_class: str | None = None,
        object_lock: ObjectLock | None = None,
        request_payer: str | None = None,
        layout: Layout = "run",
        commit_record: CommitRecord = False,
        profile: StoreProfile | str | None = None,
        settings: TransferSettings | None = None,
        progress: ProgressSetting = None,
        events: Events | None = None,
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
        self._buckets = Buckets(
            client,
            profile=check_profile(profile),
            expected_bucket_owner=expected_bucket_owner,
            request_payer=request_payer,
            near=self._run.execution,
        )
        store, prefix = self._buckets.own(bucket, prefix)
        self._planner = PutPlanner(
            store, prefix, self._run, defaults, layout, commit_record, given=run, keep=keep_of(keep), clock=clock
        )
        self._place = ResumePlace(store.bucket, prefix, self._planner.folder, layout)
        self._writes = Writes(
            store=store,
            settings=check_transfer(settings),
            registry=NameRegistry(),
            clock=clock,
            progress=progress_from(progress),
            events=events_here() if events is None else events,
        )

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> Self:
        """Build a manager from the environment.

        Args:
            environ: ``None``: ``os.environ``. Read are ``STEPOUT_BUCKET`` (a name or ``s3://bucket/prefix``),
                ``STEPOUT_PREFIX``, ``STEPOUT_S3_PROFILE``, ``STEPOUT_REQUEST_PAYER``, and what ``RunIdentity.from_env``
                reads; an empty variable counts as absent.
            overrides: Arguments of ``ArtifactManager`` that win over the environment.

        Raises:
            ConfigurationError: There is no bucket, or a variable is invalid.
        """
        found = settings_from_env(os.environ if environ is None else environ, overrides)
        return cls(found.pop("bucket"), **found)

    def __reduce__(self) -> NoReturn:
        not_picklable("artifact manager")

    def __repr__(self) -> str:
        return f"ArtifactManager('{self.url}', {len(self.pointers)} artifacts)"

    @property
    def run(self) -> RunIdentity:
        """The run that writes, completed; another manager with the same run makes the same keys."""
        return self._run

    @property
    def bucket(self) -> str:
        """The bucket's name, or the ARN of an access point."""
        return self._writes.store.bucket

    @property
    def url(self) -> str:
        """The folder of everything that this manager writes, ``s3://bucket/prefix/…/``."""
        return f"s3://{self.bucket}/{self._planner.folder}/"

    @property
    def events(self) -> Events:
        """Who is told of each put: ``events.add(listener)``."""
        return self._writes.events

    @property
    def pointers(self) -> Mapping[str, Pointer]:
        """Every artifact committed so far, by name, in order; a copy."""
        return self._writes.registry.pointers

    @property
    def unfinished(self) -> list[str]:
        """The sorted names of artifacts that were opened and not committed, without those whose writer was aborted."""
        return self._writes.registry.unfinished

    # One artifact from one value ---------------------------------------------------------------------------------

    def put(self, name: str, value: Any, **options: Any) -> Pointer:
        """Write a value in the format of its type.

        Args:
            name: The artifact's name.
            value: Bytes; text (content; what names a file or a folder that is there is refused); a ``pathlib.Path`` of
                a file or a directory, or a binary file object; a PIL image or a numpy array (an image); a table, or an
                iterator of record batches; anything that is JSON.
            options: See ``PutOptions``, and the put that the value calls for.

        Raises:
            ConfigurationError: Text, or bytes, that name a file or a folder: say ``put_file`` or ``put_text``.
        """
        values.check_no_path(name, value)
        kind = values.kind_of(value)
        pointer: Pointer = getattr(self, f"put_{kind}")(name, value, **options)
        return pointer

    def put_bytes(self, name: str, data: bytes | bytearray | memoryview, **options: Unpack[PutOptions]) -> Pointer:
        """Write bytes, which must not change during the call; ``application/octet-stream`` without ``media_type=``."""
        planned = self._planner.plan(name, DEFAULT, "", options)
        return self._writes.put(planned, values.buffer_of(name, data))

    def put_text(self, name: str, text: str, *, encoding: str = "utf-8", **options: Unpack[PutOptions]) -> Pointer:
        """Write text without lone surrogates as UTF-8, the one encoding that every reader agrees on; newlines stay."""
        planned = self._planner.plan(name, TEXT, ".txt", options)
        return self._writes.put(planned, values.encoded_text(name, text, encoding))

    def put_json(self, name: str, value: Any, **options: Unpack[PutOptions]) -> Pointer:
        """Write JSON: compact, UTF-8. Tuples become arrays, numpy's scalars numbers.

        Args:
            name: The artifact's name.
            value: A value without ``stepout.schemas.json_problems``: no NaN, dates, bytes or sets.

        Raises:
            InvalidDocumentError: The value is not JSON; ``problems`` says which members. Nothing was sent.
        """
        planned = self._planner.plan(name, JSON, ".json", options)
        return self._writes.put(planned, values.encoded_json(name, value))

    def put_file(self, name: str, path: str | os.PathLike[str] | Any, **options: Unpack[PutOptions]) -> Pointer:
        """Write a file, which must not change during the call, or a binary file object from its position to its end.

        Media type and extension follow from the name of the bytes that are read: ``gzip.open("rows.csv.gz")`` gets
        those of ``rows.csv``. A name without a known extension gets ``application/octet-stream`` and no extension.

        Args:
            name: The artifact's name.
            path: A path, or an object with ``read``.

        Raises:
            ArtifactChangedError: The file changed while it was read. Nothing was kept.
            ConfigurationError: The file object is closed, gives text, or stands at its end behind bytes that it holds
                (``seek(0)`` goes back). Nothing was sent.
            OSError: The file cannot be read.
        """
        return put_file(self._planner, self._writes, name, path, options)

    def put_directory(
        self, name: str, path: str | os.PathLike[str], *, resume_from: ResumeFrom = None, **options: Unpack[PutOptions]
    ) -> Pointer:
        """Write every file below a directory, several at once, then a listing of them, which is the artifact.

        Empty folders are kept, and whether a file's owner may execute it; links out of the directory are refused. Of a
        manager with ``layout="fixed"`` what an earlier try has left is not sent again.

        Args:
            name: The artifact's name.
            path: The directory; at most 500,000 files and empty folders, in the memory of a few.
            resume_from: ``url`` of a manager below this prefix whose put of this directory did not end, or of several:
                what is there with the same content is named there; not what another execution's recorded task wrote.
        """
        source, earlier = values.path_of(name, path), self._place.earlier(resume_from)
        return writing.put_directory(self._planner, self._writes, name, source, earlier, options)

    def put_image(
        self,
        name: str,
        image: Any,
        format: str = "png",  # noqa: A002 - the name users expect, as in Pillow
        **options: Any,
    ) -> Pointer:
        """Write an image; needs the extra ``image``.

        Args:
            name: The artifact's name.
            image: A PIL image, of one with several frames all of them (WebP with their durations, TIFF as pages); or a
                numpy array: ``bool`` of HxW, ``uint8`` of HxW, HxWx1, HxWx3 (RGB) or HxWx4 (RGBA), ``uint16`` of HxW
                (PNG and TIFF).
            format: ``"png"``, ``"jpeg"``, ``"webp"`` or ``"tiff"``; the key's extension follows it.
            options: See ``PutOptions``; and options of Pillow's writer, for example ``quality=90``.
        """
        return writing.put_image(self._planner, self._writes, name, image, format, options)

    def put_table(
        self,
        name: str,
        table: Any,
        *,
        compression: str = "snappy",
        row_group_bytes: int = ROW_GROUP_BYTES,
        **options: Unpack[PutOptions],
    ) -> Pointer:
        """Write a table as Parquet; encoding, hashing and sending overlap. Needs the extra ``parquet``.

        Args:
            name: The artifact's name.
            table: Anything with the Arrow C stream or array interface (pyarrow, pandas, polars, duckdb), a pyarrow
                dataset or scanner, or an iterator of such things. A stream takes one row group of memory, a pool of
                buffers and the footer, however long it is. The first item of an iterator decides what the columns are,
                and whether pandas' index is one (row numbers are not); a later one that could not follow without loss
                is refused. A stream that can be read only once is closed, even after an error.
            compression: ``"snappy"``, ``"zstd"``, ``"gzip"``, ``"lz4"``, ``"brotli"`` or ``"none"``.
            row_group_bytes: Arrow memory that is gathered into one row group, about, in bytes.

        Raises:
            ConfigurationError: Duplicate column names, rows without columns, a type that Arrow or Parquet cannot hold
                as what it is (before anything is sent), or batches that differ in their columns. Nothing was kept.
        """
        return writing.put_table(self._planner, self._writes, name, table, compression, row_group_bytes, options)

    def put_dataset(  # noqa: PLR0913 - one keyword for each setting
        self,
        name: str,
        data: Any,
        *,
        partition_by: Sequence[str] = (),
        max_rows_per_file: int | None = None,
        max_open_files: int | None = None,
        compression: str = "snappy",
        row_group_bytes: int = ROW_GROUP_BYTES,
        append_to: HasManifest | None = None,
        **options: Unpack[PutOptions],
    ) -> Pointer:
        """Write a table as a dataset: Parquet files in Hive partitions, and a manifest of them, which is the artifact.

        A file's key ends in its path, ``day=2026-01-01/part-00000.parquet``; values are percent-encoded as pyarrow does
        it. The manifest goes last: a dataset is read whole or not at all, and files of one that failed stay unnamed.

        Args:
            name: The artifact's name.
            data: As for ``put_table``, and streamed as there: all partitions together take its memory.
            partition_by: Columns of text, whole numbers, decimals, booleans, dates or timestamps, outermost first. The
                files do not hold them. No value may be the empty text, which Hive cannot tell from null.
            max_rows_per_file: Where a file ends and the partition's next begins.
            max_open_files: A further partition ends the file that was least recently written to; ``None``: as many as
                ``settings`` has memory for, 9 of 64 MiB, at most 16. Data sorted by partition needs one.
            compression: As for ``put_table``.
            row_group_bytes: Arrow memory of the rows that wait, of all partitions together.
            append_to: A resolved dataset ``Artifact``: the new one names its files, too, and copies none.

        Raises:
            ConfigurationError: As for ``put_table``; a partition column is not there, cannot be in paths, or is the
                last; a value cannot; more than 10,000 files; or ``append_to`` has other columns. Nothing can be read.
        """
        how = writing.DatasetSettings(partition_by, max_rows_per_file, max_open_files, compression, row_group_bytes)
        return writing.put_dataset(self._planner, self._writes, name, data, how, append_to, options)

    def merge_datasets(self, name: str, parts: Iterable[HasManifest], **options: Unpack[PutOptions]) -> Pointer:
        """Make one dataset of several, such as those of a Map's children, without copying a byte.

        Args:
            name: The artifact's name.
            parts: Resolved dataset ``Artifact``s. Where two have a file of one path, the later part's gets a number in
                the manifest: ``part-00000-1.parquet``. Keys stay as they are.

        Raises:
            ConfigurationError: Two differ in their columns or partition columns, or have one file; or there is none.
        """
        return writing.merge_datasets(self._planner, self._writes, name, parts, options)

    def put_many(
        self,
        items: Mapping[str, Any] | Iterable[tuple[str, Any]],
        *,
        connections: int | None = None,
        **options: Unpack[PutOptions],
    ) -> dict[str, Pointer]:
        """Write many values, several at once, each as ``put`` writes it; small ones cost least this way.

        All values are tried, and one error reports all failures. An error that every put would meet ends it early:
        a missing bucket, refused credentials or permissions, a manager that was aborted, and a store that does not
        answer 32 times in a row. An exception of ``items`` leaves unchanged; what was under way then ends by itself.

        Args:
            items: Names and values; an iterator of pairs is taken lazily, in this thread: no more than four times
                as many values as there are connections, and of bytes and text no more than 64 MiB, wait at once.
            connections: Requests in flight at once, 16 by default.
            options: See ``PutOptions``; they hold for all.

        Returns:
            The pointers, in the order of ``items``; they are in ``pointers`` as well.

        Raises:
            ManyFailedError: ``failures`` says which failed and how, ``pointers`` has all others; ``retryable`` if all
                failures are.
            ConfigurationError: ``items`` or ``connections`` is invalid.
        """
        from stepout.artifacts.writing.put_many import put_many

        return put_many(self._writes, self.put, items, connections, options)

    @overload
    def open(self, name: str, kind: Literal["wb"] = "wb", /, **options: Unpack[PutOptions]) -> ArtifactWriter: ...
    @overload
    def open(self, name: str, kind: Literal["w"], /, **options: Unpack[PutOptions]) -> ArtifactTextWriter: ...
    def open(
        self, name: str, kind: Literal["wb", "w"] = "wb", /, **options: Unpack[PutOptions]
    ) -> ArtifactWriter | ArtifactTextWriter:
        """Open an artifact for writing.

        Args:
            name: The artifact's name.
            kind: ``"wb"`` for bytes, ``"w"`` for text as UTF-8.
            options: See ``PutOptions``; ``mode=`` is ``"create"`` or ``"overwrite"``.

        Returns:
            A file object. Closing it commits; an exception that leaves its ``with`` block leaves nothing. It goes
            forward only: for a writer that seeks (Pillow's for TIFF and PDF does), write to memory or to a file first.
        """
        return writing.open_writer(self._planner, self._writes, name, kind, options)

    def adopt(
        self,
        name: str,
        url: str,
        verify: AdoptionVerify = "s3",
        *,
        version_id: str | None = None,
        **options: Unpack[PutOptions],
    ) -> Pointer:
        """Name an existing object, pinned to its version, without copying it.

        Args:
            name: The artifact's name.
            url: ``s3://bucket/key``, in any bucket that this manager's client may read.
            verify: ``"s3"``: take the full-object checksum that S3 keeps (one HEAD). ``"read"``: hash it in one read.
            version_id: The version to adopt; ``None``: the newest.

        Raises:
            ArtifactNotFoundError: There is no such object.
            ConfigurationError: S3 keeps no checksum of it that a pointer can hold.
        """
        from stepout.artifacts.writing.adopt import adopt

        return adopt(self._planner, self._writes, self._buckets, name, url, verify, version_id, options)

    def put_document(self, stem: str, document: Mapping[str, Any]) -> Pointer:
        """Write JSON beside the artifacts without naming it one; ``stem`` has a hyphen, which no artifact name has."""
        return self._writes.put(self._planner.plan_document(stem), dump_json(dict(document)))

    @property
    def keeps_record(self) -> bool:
        """Whether this manager is to keep the task's record."""
        return self._planner.keeps_record

    def put_record(self, document: Mapping[str, Any]) -> Pointer:
        """Keep the output document, as it is reported, as ``_output.json``: a task does it before it succeeds."""
        return self._writes.put(self._planner.plan_record(), dump_json(dict(document)))

    def keep_to_this_process(self) -> None:
        """Refuse to write in every process that is forked off this one; a task calls this, as only it reports."""
        self._writes.home.claim()

    def abort(self) -> None:
        """Refuse new writes and abort every open one, at once, but no parent process's; from any thread, idempotent."""
        self._writes.registry.end("was aborted", aborted=True)

    def close(self) -> None:
        """Refuse new artifacts; idempotent.

        Raises:
            StoreError: A writer was still open, and is aborted; or one was lost, and its name not written since.
        """
        self._writes.registry.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

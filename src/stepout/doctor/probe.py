"""The doctor's trial of a server: what it does with conditions and checksums, seen on small objects of our own.

This writes: every object is called ``stepout-trial-…``, lies under the prefix that was named, and is removed again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from stepout.doctor.bucket import PROBE
from stepout.doctor.findings import Document
from stepout.doctor.rules import find
from stepout.schemas.errors import ArtifactExistsError, ConfigurationError, IntegrityError, StepoutError

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepout.artifacts.s3.store import S3Store
    from stepout.artifacts.store_writes import Written
    from stepout.doctor.findings import Looked


def probe_server(client: Any, url: str) -> Looked:
    """Try out what the server of a bucket does, with small objects, which are removed again.

    Args:
        client: A boto3 S3 client.
        url: ``s3://bucket/prefix``, where artifacts will go.

    Returns:
        A document ``{"ServerProbe": {…}}``, or a finding that says why it is missing. Its members:
        ``checksumHeaders`` (they are taken),
        ``checksumsVerified`` (a wrong one is refused), ``fullObjectChecksums`` (of multipart uploads),
        ``conditionalPut`` and ``conditionalCompletion`` (``If-None-Match`` is honoured), ``etagsRepeated`` (GET says
        what the write said), each ``null`` where it was not tried; and the ``profile`` that follows.

    Raises:
        ConfigurationError: It is no such URL.
    """
    from stepout.artifacts.s3.server_trial import trial_key
    from stepout.schemas.text.locations import split_s3_url

    try:
        bucket, prefix = split_s3_url(url)
    except ValueError:
        raise ConfigurationError(f"doctor: --probe {url!r} is no s3://bucket/prefix. Nothing was written") from None
    key = trial_key(f"{prefix.strip('/')}/x".lstrip("/"))
    try:
        seen = _Probe(client, bucket, key).answers()
    except StepoutError as error:
        finding = find("SO900", "", f"the server could not be tried out: {str(error).removesuffix('.')}")
        return [], [replace(finding, source=url)]
    return [Document(url, {PROBE: {**seen, "profile": profile_of(seen)}})], []


def profile_of(seen: dict[str, Any]) -> str:
    """Return the words of ``STEPOUT_S3_PROFILE`` that fit what was seen.

    >>> profile_of({"checksumHeaders": True, "fullObjectChecksums": True, "conditionalPut": False})
    'unconditional'
    """
    words = []
    if seen.get("conditionalPut") is False or seen.get("conditionalCompletion") is False:
        words.append("unconditional")
    if seen.get("checksumHeaders") is False:
        words.append("no-checksums")
    simple = seen.get("fullObjectChecksums") is False or seen.get("etagsRepeated") is False
    return " ".join(words) or ("compatible" if simple else "aws")


class _Probe:
    """One trial, step by step: what a step has shown, the next one keeps to."""

    def __init__(self, client: Any, bucket: str, key: str) -> None:
        self._client, self._bucket, self._key = client, bucket, key

    def answers(self) -> dict[str, bool | None]:
        """Try everything out.

        Raises:
            StepoutError: Not even a plain object can be written.
        """
        from stepout.artifacts.s3.server_trial import trial_object
        from stepout.artifacts.store_writes import WriteOptions

        headers = self._takes_checksums()
        plain, once = WriteOptions(mode="overwrite"), WriteOptions()
        store = self._store(checksum_headers=headers)
        with trial_object(store, self._key, plain) as written:
            repeated = self._repeats(store, written)
            put = _refused(lambda: self._put(store, once))
            complete = _refused(lambda: self._upload(store, once)) if put else None
            repeated = repeated and self._repeats(store, self._upload(store, plain))
            return {
                "checksumHeaders": headers,
                "checksumsVerified": self._verifies(store) if headers else None,
                "fullObjectChecksums": self._has_full_checksums() if headers else None,
                "conditionalPut": put,
                "conditionalCompletion": complete,
                "etagsRepeated": repeated,
            }

    def _takes_checksums(self) -> bool:
        """Put with a checksum header; where that is refused, without one."""
        from stepout.artifacts.s3.server_trial import trial_object
        from stepout.artifacts.store_writes import WriteOptions

        try:
            with trial_object(self._store(checksum_headers=True), self._key, WriteOptions(mode="overwrite")):
                return True
        except StepoutError as refusal:
            try:
                with trial_object(self._store(checksum_headers=False), self._key, WriteOptions(mode="overwrite")):
                    return False
            except StepoutError:
                raise refusal from None

    def _store(self, *, checksum_headers: bool = True, multipart_checksum: Any = "parts") -> S3Store:
        from stepout.artifacts.s3.store import S3Store
        from stepout.artifacts.store_writes import StoreProfile

        profile = StoreProfile(name="trial", multipart_checksum=multipart_checksum, checksum_headers=checksum_headers)
        return S3Store(self._client, self._bucket, profile=profile)

    def _put(self, store: S3Store, options: Any, sha256: str | None = None) -> Written:
        from stepout.artifacts.checksums import sha256_of
        from stepout.artifacts.s3.server_trial import TRIAL

        return store.put(self._key, [TRIAL], checksum={"sha256": sha256 or sha256_of([TRIAL])}, options=options)

    def _upload(self, store: S3Store, options: Any) -> Written:
        from stepout.artifacts.s3.server_trial import trial_upload

        with trial_upload(store, self._key, options) as complete:
            return complete(options)

    def _verifies(self, store: S3Store) -> bool:
        from stepout.artifacts.store_writes import WriteOptions

        try:
            self._put(store, WriteOptions(mode="overwrite"), "0" * 64)
        except IntegrityError:
            return True
        return False

    def _has_full_checksums(self) -> bool:
        from stepout.artifacts.checksums import best_crc
        from stepout.artifacts.store_writes import WriteOptions

        try:
            self._upload(self._store(multipart_checksum=best_crc()), WriteOptions(mode="overwrite"))
        except StepoutError:
            return False
        return True

    def _repeats(self, store: S3Store, written: Written) -> bool:
        with store.get(self._key, start=0, stop=1) as download:
            for _ in download.blocks():
                pass
            return download.info.etag is not None and download.info.etag == written.etag


def _refused(write: Callable[[], Written]) -> bool:
    """Say whether a write-once write to a key that is taken is refused; a store of ours may find out by itself."""
    try:
        write()
    except ArtifactExistsError:
        return True
    except ConfigurationError:
        return False
    return False

"""An S3 server over HTTP that is not AWS's: it keeps objects in memory and has the faults that it is told to have.

It knows the requests that stepout sends (objects, ranges, multipart uploads, listings), checks no credentials, and
remembers each request with its headers. ``Faults`` are what servers in the field were seen to do.
"""

from __future__ import annotations

import base64
import hashlib
import html
import os
import re
import threading
import zlib
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.sax.saxutils import escape

from stepout.artifacts.s3.clients import make_client

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Faults", "OtherS3", "other_s3"]


@dataclass
class Faults:
    """What the server does that S3 does not."""

    ignores_put_condition: bool = False
    ignores_completion_condition: bool = False
    completes_with_another_etag: bool = False
    puts_with_another_etag: bool = False
    head_has_another_etag: bool = False
    loses_the_end: bool = False
    unknown_versions: bool = False
    weak_etags: bool = False
    refuses_checksums: tuple[int, str, str] | None = None
    """Status, code and message of the answer to an ``x-amz-checksum-…`` header."""
    verifies_nothing: bool = False
    said_checksums: dict[str, str] = field(default_factory=dict)
    """Headers that HEAD answers with, whatever was written."""
    part_etags_are_new: bool = False
    """Each UploadPart gets an ETag of its own, also of the same bytes, as with SSE-KMS."""
    lists_no_checksums: bool = False
    refuses_listing: bool = False
    archived: str | None = None
    requester_pays: bool = False


@dataclass
class _Stored:
    data: bytes
    etag: str
    headers: dict[str, str]


class OtherS3:
    """A running server: its buckets' objects by ``bucket/key``, its open uploads, the requests that it was sent."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.objects: dict[str, _Stored] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.parts: dict[tuple[str, int], _Stored] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.lock = threading.Lock()
        self.endpoint = ""

    def client(self, **options: Any) -> Any:
        """Return the client that the library would build for it."""
        options |= {"aws_access_key_id": "anyone", "aws_secret_access_key": "secret"}
        return make_client(endpoint_url=self.endpoint, region="us-east-1", **options)

    def operations(self, key: str = "") -> list[str]:
        """Return method and query's names of each request for keys that hold ``key``, such as ``PUT partNumber``."""
        found = []
        with self.lock:
            for method, target, _ in self.requests:
                parts = urlsplit(target)
                names = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True) if name != "uploadId"]
                if key in unquote(parts.path):
                    found.append(" ".join([method, *names]))
        return found


_USED: set[int] = set()

_LISTED = re.compile(r'<PartNumber>(\d+)</PartNumber><ETag>"?([^"<]*)"?</ETag>')


@contextmanager
def other_s3(**faults: Any) -> Iterator[OtherS3]:
    """Start a server with these faults, and end it."""
    server = OtherS3(Faults(**faults))
    handler = type("Handler", (_Handler,), {"state": server})
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    while http.server_address[1] in _USED:  # what the library knows of a server, it knows by its address
        http.server_close()
        http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    _USED.add(http.server_address[1])
    http.daemon_threads = True
    server.endpoint = f"http://127.0.0.1:{http.server_address[1]}"
    threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()


class _Refused(Exception):  # noqa: N818 - an answer
    def __init__(self, status: int, code: str, message: str = "", more: str = "") -> None:
        super().__init__(code)
        self.status, self.code, self.message, self.more = status, code, message, more


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: OtherS3

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as http.server has it
        """Say nothing."""

    def do_PUT(self) -> None:
        """Take an object or a part."""
        self._answer(self._put)

    def do_POST(self) -> None:
        """Begin or complete an upload."""
        self._answer(self._post)

    def do_GET(self) -> None:
        """Give an object, a range of it, or a listing."""
        self._answer(self._get)

    def do_HEAD(self) -> None:
        """Describe an object."""
        self._answer(self._get)

    def do_DELETE(self) -> None:
        """Remove an object or an upload."""
        self._answer(self._delete)

    # Inside ------------------------------------------------------------------------------------------------------

    def _answer(self, act: Any) -> None:
        parts = urlsplit(self.path)
        self.key, self.query = unquote(parts.path).lstrip("/"), dict(parse_qsl(parts.query, keep_blank_values=True))
        given = {name.lower(): value for name, value in self.headers.items()}
        self.given, length = given, int(given.get("content-length", 0))
        body = self.rfile.read(length)
        with self.state.lock:
            self.state.requests.append((self.command, self.path, given))
            try:
                status, headers, answer = self._checked(act, body)
            except _Refused as refused:
                text = f"<Error><Code>{refused.code}</Code><Message>{escape(refused.message)}</Message>{refused.more}"
                status, headers, answer = (
                    refused.status,
                    {"Content-Type": "application/xml"},
                    f"{text}</Error>".encode(),
                )
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(answer))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD" and status != 204:
            self.wfile.write(answer)

    def _checked(self, act: Any, body: bytes) -> Any:
        faults = self.state.faults
        if faults.requester_pays and "requester" not in {
            self.given.get("x-amz-request-payer"), self.query.get("x-amz-request-payer"),
        }:  # fmt: skip
            raise _Refused(403, "AccessDenied", "Bucket is requester pays bucket but no requester pays header present.")
        if faults.refuses_checksums and any(name.startswith("x-amz-checksum-") for name in self.given):
            raise _Refused(*faults.refuses_checksums)
        return act(body)

    def _verify(self, body: bytes) -> None:
        if self.state.faults.verifies_nothing:
            return
        sums = {
            "x-amz-checksum-sha256": hashlib.sha256(body).digest(),
            "x-amz-checksum-crc32": zlib.crc32(body).to_bytes(4, "big"),
            "content-md5": hashlib.md5(body, usedforsecurity=False).digest(),
        }
        for name, value in sums.items():
            if self.given.get(name) not in {None, base64.b64encode(value).decode()}:
                raise _Refused(400, "BadDigest", "The digest did not match")

    def _refuse_taken(self, *, ignored: bool) -> None:
        if self.given.get("if-none-match") == "*" and self.key in self.state.objects and not ignored:
            raise _Refused(412, "PreconditionFailed", "At least one of the pre-conditions did not hold")

    def _put(self, body: bytes) -> Any:
        self._verify(body)
        etag = hashlib.md5(body, usedforsecurity=False).hexdigest()
        if "partNumber" in self.query:
            return self._put_part(body, etag)
        self._refuse_taken(ignored=self.state.faults.ignores_put_condition)
        self._store(body, etag)
        said = etag[::-1] if self.state.faults.puts_with_another_etag else etag
        return 200, {"ETag": self._quoted(said)}, b""

    def _put_part(self, body: bytes, etag: str) -> Any:
        upload, number = self.query["uploadId"], int(self.query["partNumber"])
        if upload not in self.state.uploads:
            raise _Refused(404, "NoSuchUpload")
        if self.state.faults.part_etags_are_new:
            etag = hashlib.md5(os.urandom(16), usedforsecurity=False).hexdigest()
        self.state.uploads[upload][number] = body
        self.state.parts[upload, number] = _Stored(body, etag, dict(self.given))
        return 200, {"ETag": f'"{etag}"'}, b""

    def _list_parts(self) -> Any:
        if self.state.faults.refuses_listing:
            raise _Refused(403, "AccessDenied", "Access Denied")
        upload, told = self.query["uploadId"], []
        for number in sorted(self.state.uploads[upload]):
            part = self.state.parts[upload, number]
            sums = "".join(
                f"<Checksum{name}>{part.headers[header]}</Checksum{name}>"
                for name in ("SHA256", "CRC32", "CRC64NVME")
                if (header := f"x-amz-checksum-{name.lower()}") in part.headers
            )
            size, shown = len(part.data), "" if self.state.faults.lists_no_checksums else sums
            named = f"<PartNumber>{number}</PartNumber><ETag>&quot;{part.etag}&quot;</ETag><Size>{size}</Size>"
            told.append(f"<Part>{named}{shown}</Part>")
        return 200, {}, f"<ListPartsResult>{''.join(told)}</ListPartsResult>".encode()

    def _store(self, body: bytes, etag: str) -> None:
        kept = {name: value for name, value in self.given.items() if name.startswith("x-amz-meta-")}
        kept["Content-Type"] = self.given.get("content-type", "binary/octet-stream")
        if "x-amz-checksum-sha256" in self.given:
            kept["x-amz-checksum-sha256"] = self.given["x-amz-checksum-sha256"]
        self.state.objects[self.key] = _Stored(body, etag, kept)

    def _quoted(self, etag: str) -> str:
        return f'W/"{etag}"' if self.state.faults.weak_etags else f'"{etag}"'

    def _post(self, body: bytes) -> Any:
        if "uploads" in self.query:
            upload = f"upload-{len(self.state.requests)}"
            self.state.uploads[upload] = {}
            return (
                200,
                {},
                f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>".encode(),
            )
        faults = self.state.faults
        self._refuse_taken(ignored=faults.ignores_completion_condition)
        upload = self.query["uploadId"]
        if (parts := self.state.uploads.get(upload)) is None:
            raise _Refused(404, "NoSuchUpload")
        listed = [(int(number), etag) for number, etag in re.findall(_LISTED, html.unescape(body.decode()))]
        for number, said in listed:
            if (upload, number) not in self.state.parts or said != self.state.parts[upload, number].etag:
                raise _Refused(400, "InvalidPart", "One or more of the specified parts could not be found")
        del self.state.uploads[upload]
        numbers = [number for number, _ in listed]
        data = b"".join(parts[number] for number in numbers)
        digests = b"".join(hashlib.md5(parts[number], usedforsecurity=False).digest() for number in numbers)
        etag = f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(numbers)}"
        self._store(data[:-1] if faults.loses_the_end else data, etag)
        said = hashlib.md5(data, usedforsecurity=False).hexdigest() if faults.completes_with_another_etag else etag
        version = {"x-amz-version-id": "v1"} if faults.unknown_versions else {}
        text = f"<CompleteMultipartUploadResult><ETag>{self._quoted(said)}</ETag></CompleteMultipartUploadResult>"
        return 200, version, text.encode()

    def _get(self, _: bytes) -> Any:
        faults, head = self.state.faults, self.command == "HEAD"
        if "uploadId" in self.query:
            return self._list_parts()
        if "list-type" in self.query:
            return 200, {}, b"<ListBucketResult></ListBucketResult>"
        stored = self.state.objects.get(self.key)
        if stored is None or "versionId" in self.query:
            raise _Refused(404, "NoSuchKey" if stored is None else "NoSuchVersion")
        if faults.archived and not head:
            raise _Refused(
                403, "InvalidObjectState", "The operation is not valid for the object's storage class",
                f"<StorageClass>{faults.archived}</StorageClass>",
            )  # fmt: skip
        etag = self._quoted(stored.etag[::-1] if head and faults.head_has_another_etag else stored.etag)
        if self.given.get("if-match") not in {None, "*", etag} or "W/" in self.given.get("if-match", ""):
            raise _Refused(412, "PreconditionFailed")
        headers = {"ETag": etag, "Last-Modified": formatdate(0, usegmt=True), **stored.headers}
        if head:
            headers |= faults.said_checksums | ({"x-amz-storage-class": faults.archived} if faults.archived else {})
            return 200, {**headers, "Content-Length": str(len(stored.data))}, b""
        headers.pop("x-amz-checksum-sha256", None)
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.given.get("range", ""))
        if wanted is None:
            return 200, headers, stored.data
        start, stop = int(wanted[1]), min(int(wanted[2] or len(stored.data) - 1), len(stored.data) - 1)
        headers["Content-Range"] = f"bytes {start}-{stop}/{len(stored.data)}"
        return 206, headers, stored.data[start : stop + 1]

    def _delete(self, _: bytes) -> Any:
        if "uploadId" in self.query:
            if self.state.uploads.pop(self.query["uploadId"], None) is None:
                raise _Refused(404, "NoSuchUpload")
        else:
            self.state.objects.pop(self.key, None)
        return 204, {}, b""

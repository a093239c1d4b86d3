"""A loopback S3 that only reads or sends bytes, so that what is measured is the client.

It keeps nothing: an uploaded body is read and dropped, and every object that can be read is made of one pattern file:
the key ``pattern/1048576`` (any key whose last segment is a number) holds that many bytes of it, repeated where the
file is shorter. So several processes can serve one port without sharing anything but counters. It checks no checksum,
but counts which kind of integrity every body came with; the report shows that.

    python -m benchmarks.sink --pattern FILE [--certificate server.pem]

It answers as fast as it can; ``benchmarks.network`` is what stands before it where a network is wanted.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import json
import mmap
import os
import random
import re
import signal
import socket
import ssl
import sys
import tempfile
import threading
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.counting import Counters, Limit
from benchmarks.job import ETAG
from benchmarks.priority import before_clients
from benchmarks.wire import Body, ClosedError, Head, Wire

__all__ = ["COUNTERS", "main"]

COUNTERS = (
    "requests", "failed", "slowed", "put", "create", "part", "complete", "abort", "get", "head", "other",
    "bytes_in", "bytes_out",
    "header_checksum", "trailer_checksum", "md5", "signed_sha256", "unchecked",
)  # fmt: skip
SLOW = "<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
CHANGED = "<?xml version='1.0'?><Error><Code>PreconditionFailed</Code><Message>another version</Message></Error>"
SMALL = 8 << 20
MODIFIED = "Sun, 01 Jun 2025 00:00:00 GMT"
XML = '<?xml version="1.0" encoding="UTF-8"?>\n'


@dataclass
class Pattern:
    """The bytes that every object is made of."""

    path: Path
    file: int = field(init=False)
    view: memoryview = field(init=False)
    _crcs: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.file = os.open(self.path, os.O_RDONLY)
        self.view = memoryview(mmap.mmap(self.file, 0, access=mmap.ACCESS_READ))

    def send(self, wire: Wire, start: int, count: int) -> None:
        """Send a range of the endless repetition of the file."""
        while count:
            at = start % len(self.view)
            step = min(count, len(self.view) - at)
            wire.send_file(self.file, self.view, at, step)
            start, count = start + step, count - step

    def crc32(self, size: int) -> str:
        """Return the checksum that S3 would hold of a small object of boto3's."""
        if size not in self._crcs:
            whole, rest = divmod(size, len(self.view))
            crc = 0
            for _ in range(whole):
                crc = zlib.crc32(self.view, crc)
            self._crcs[size] = base64.b64encode(zlib.crc32(self.view[:rest], crc).to_bytes(4)).decode()
        return self._crcs[size]


@dataclass
class Sink:
    """Answers requests.

    Args:
        pattern: What objects hold.
        counters: Where it counts.
        taken: A folder in which this server's processes note the keys of write-once writes.
        limit: What is refused with 503 SlowDown; its body was read, as a server does that wants to keep the connection.
    """

    pattern: Pattern
    counters: Counters
    taken: Path
    limit: Limit = field(default_factory=lambda: Limit(0))

    def serve(self, sock: socket.socket, context: ssl.SSLContext | None) -> None:
        """Serve one connection to its end."""
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            wire = Wire(context.wrap_socket(sock, server_side=True) if context else sock)
        except OSError:
            sock.close()
            return
        with contextlib.suppress(ClosedError, OSError):
            self._serve(wire)
        wire.close()

    def _serve(self, wire: Wire) -> None:
        try:
            while self.answer(wire):
                pass
        except (ClosedError, OSError):
            raise
        except Exception as error:
            self.counters.add("failed")
            text = f"{XML}<Error><Code>NotImplemented</Code><Message>{type(error).__name__}</Message></Error>"
            self._reply(wire, 501, {"Connection": "close"}, text.encode())

    def answer(self, wire: Wire) -> bool:
        """Answer one request; ``False`` when the client wants no more."""
        head = wire.head()
        if head.headers.get("expect", "").lower() == "100-continue":
            wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = wire.body(head, keep=head.method == "POST")
        if head.path == "/-/counters":
            self._reply(wire, 200, {}, json.dumps(self.counters.total()).encode())
            return False
        self.counters.add("requests")
        if not self.limit.takes():
            self.counters.add("slowed")
            text = "" if head.method == "HEAD" else SLOW
            self._reply(wire, 503, {}, text.encode())
            return True
        {"PUT": self._put, "POST": self._post, "GET": self._get, "HEAD": self._get, "DELETE": self._delete}[
            head.method
        ](wire, head, body)
        return head.headers.get("connection", "").lower() != "close"

    def _put(self, wire: Wire, head: Head, body: Body) -> None:
        if not head.bucket_and_key[1]:
            self._reply(wire, 200, {}, b"")
            return
        self.counters.add("part" if "partNumber" in head.query else "put")
        self.counters.add("bytes_in", body.size)
        given = {name: value for name, value in head.headers.items() if _is_checksum(name)}
        self.counters.add(_integrity(head, body, given))
        if "partNumber" not in head.query and self._refused(wire, head):
            return
        self._reply(wire, 200, {"ETag": ETAG, **given, **body.trailers}, b"")

    def _post(self, wire: Wire, head: Head, body: Body) -> None:
        bucket, key = head.bucket_and_key
        names = f"<Bucket>{bucket}</Bucket><Key>{key}</Key>"
        if "uploads" in head.query:
            self.counters.add("create")
            text = f"<InitiateMultipartUploadResult>{names}<UploadId>{random.randbytes(16).hex()}</UploadId>"  # noqa: S311
            told = {n: v for n, v in head.headers.items() if n in {"x-amz-checksum-algorithm", "x-amz-checksum-type"}}
            self._reply(wire, 200, told, (XML + text + "</InitiateMultipartUploadResult>").encode())
        elif "uploadId" in head.query:
            self.counters.add("complete")
            if self._refused(wire, head):
                return
            text = f"<CompleteMultipartUploadResult>{names}<ETag>{ETAG[:-1]}-2&quot;</ETag>".replace('"', "&quot;")
            text += _completed_checksums(head, body.content or b"") + "</CompleteMultipartUploadResult>"
            self._reply(wire, 200, {}, (XML + text).encode())
        else:
            self.counters.add("other")
            self._reply(wire, 200, {}, (XML + "<DeleteResult/>").encode())

    def _refused(self, wire: Wire, head: Head) -> bool:
        """Refuse a write-once write to a key that is taken, as stepout makes sure that a server does."""
        once, key = "if-none-match" in head.headers, head.bucket_and_key[1]
        if not once and "/stepout-trial-" not in key:
            return False  # nobody asks for it again
        try:
            (self.taken / hashlib.sha256(key.encode()).hexdigest()).touch(exist_ok=False)
        except FileExistsError:
            if once:
                text = XML + "<Error><Code>PreconditionFailed</Code><Message>it is taken</Message></Error>"
                self._reply(wire, 412, {}, text.encode())
            return once
        return False

    def _get(self, wire: Wire, head: Head, _body: Body) -> None:
        key = head.bucket_and_key[1]
        size = int(last) if (last := key.rpartition("/")[2]).isdecimal() else None
        self.counters.add("head" if head.method == "HEAD" else "get" if size is not None else "other")
        if size is None:
            self._missing(wire, head, key)
            return
        if head.headers.get("if-match", ETAG) != ETAG:
            self._reply(wire, 412, {}, b"" if head.method == "HEAD" else CHANGED.encode())
            return
        headers = {"ETag": ETAG, "Last-Modified": MODIFIED, "Accept-Ranges": "bytes"}
        headers["Content-Type"] = "application/octet-stream"
        if size <= SMALL and "range" not in head.headers and head.headers.get("x-amz-checksum-mode"):
            headers |= {"x-amz-checksum-crc32": self.pattern.crc32(size), "x-amz-checksum-type": "FULL_OBJECT"}
        start, stop = _range(head.headers.get("range"), size)
        status = 206 if "range" in head.headers else 200
        if status == 206:
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        if start == 0 and stop <= 1 << 16 and head.method == "GET" and stop <= len(self.pattern.view):
            self._reply(wire, status, headers, self.pattern.view[:stop])
            return
        self._reply(wire, status, headers, b"", length=stop - start)
        if head.method == "GET":
            # Counted first: whoever asks once all bytes have come must not be told less.
            before, length = wire.sent, stop - start
            self.counters.add("bytes_out", length)
            try:
                self.pattern.send(wire, start, length)
            finally:
                self.counters.add("bytes_out", wire.sent - before - length)

    def _missing(self, wire: Wire, head: Head, key: str) -> None:
        listing = "list-type" in head.query or "prefix" in head.query
        if not key and head.method == "GET" and (listing or "location" not in head.query):
            text = "<ListBucketResult><IsTruncated>false</IsTruncated><KeyCount>0</KeyCount></ListBucketResult>"
            self._reply(wire, 200, {}, (XML + text).encode())
        elif not key:
            self._reply(wire, 200, {}, (XML + "<LocationConstraint/>").encode() if head.method == "GET" else b"")
        else:
            text = "" if head.method == "HEAD" else XML + "<Error><Code>NoSuchKey</Code><Message>none</Message></Error>"
            self._reply(wire, 404, {}, text.encode())

    def _delete(self, wire: Wire, head: Head, _body: Body) -> None:
        self.counters.add("abort" if "uploadId" in head.query else "other")
        self._reply(wire, 204, {}, b"")

    def _reply(
        self, wire: Wire, status: int, headers: dict[str, str], body: bytes | memoryview, *, length: int | None = None
    ) -> None:
        fixed = {"x-amz-request-id": "0123456789ABCDEF", "Content-Length": str(len(body) if length is None else length)}
        if status == 204:
            fixed.pop("Content-Length")
        if isinstance(body, bytes) and body.startswith(b"<?xml"):
            fixed["Content-Type"] = "application/xml"
        lines = "".join(f"{name}: {value}\r\n" for name, value in {**fixed, **headers}.items())
        wire.send(f"HTTP/1.1 {status} OK\r\n{lines}\r\n".encode() + body)


def _is_checksum(name: str) -> bool:
    return name.startswith("x-amz-checksum-") and name not in {"x-amz-checksum-algorithm", "x-amz-checksum-type"}


def _integrity(head: Head, body: Body, given: dict[str, str]) -> str:
    """Name the strongest thing that a server could hold this body against."""
    if given:
        return "header_checksum"
    if body.trailers:
        return "trailer_checksum"
    if "content-md5" in head.headers:
        return "md5"
    return "signed_sha256" if len(head.headers.get("x-amz-content-sha256", "")) == 64 else "unchecked"


def _completed_checksums(head: Head, content: bytes) -> str:
    """Echo the full object's checksum, or make up a composite one as S3 does where parts had theirs."""
    names = {"sha256": "SHA256", "sha1": "SHA1", "crc32": "CRC32", "crc32c": "CRC32C", "crc64nvme": "CRC64NVME"}
    whole = [(names[n[15:]], v) for n, v in head.headers.items() if _is_checksum(n) and n[15:] in names]
    if whole:
        ((name, value),) = whole[:1]
        return f"<Checksum{name}>{value}</Checksum{name}><ChecksumType>FULL_OBJECT</ChecksumType>"
    parts = re.findall(rb"<Checksum(\w+)>([^<]+)<", content)
    if not parts:
        return ""
    name, value = parts[0][0].decode(), parts[0][1].decode()
    return f"<Checksum{name}>{value}-{len(parts)}</Checksum{name}><ChecksumType>COMPOSITE</ChecksumType>"


def _range(text: str | None, size: int) -> tuple[int, int]:
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", text or "")
    if found is None or not any(found.groups()):
        return 0, size
    first, last = found.groups()
    if not first:
        return max(size - int(last), 0), size
    return int(first), min(int(last) + 1, size) if last else size


def _accept(listener: socket.socket, sink: Sink, context: ssl.SSLContext | None) -> None:
    while True:
        with contextlib.suppress(ConnectionError):
            sock, _ = listener.accept()
            threading.Thread(target=sink.serve, args=(sock, context), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(0)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sink", description=__doc__.partition("\n")[0], allow_abbrev=False
    )
    parser.add_argument("--pattern", type=Path, required=True, help="the file whose bytes objects are made of")
    parser.add_argument("--certificate", type=Path, help="a PEM file of certificate and key: serve HTTPS")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--processes", type=int, default=max(2, os.cpu_count() or 2))
    parser.add_argument("--requests-per-second", type=float, default=0, help="refuse what comes faster: 503 SlowDown")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Serve until standard input ends or SIGTERM; the first line printed is the port."""
    options = _options(arguments)
    before_clients()
    listener = socket.create_server((options.host, options.port), backlog=512)
    context = None
    if options.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.certificate)
    processes = options.processes if hasattr(os, "fork") else 1
    counters = Counters(COUNTERS, processes)
    pattern = Pattern(options.pattern)
    taken = tempfile.TemporaryDirectory(prefix="stepout-sink-")
    sink = Sink(pattern, counters, Path(taken.name), Limit(options.requests_per_second))
    children = []
    for row in range(1, processes):
        if (child := os.fork()) == 0:
            counters.row = row
            threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
            _accept(listener, sink, context)
        children.append(child)
    threading.Thread(target=_accept, args=(listener, sink, context), daemon=True).start()
    print(listener.getsockname()[1], flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        sys.stdin.buffer.read()
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
        taken.cleanup()


if __name__ == "__main__":
    main()

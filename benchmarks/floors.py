"""What nobody escapes: the same bytes hashed, sent or received by hand, without a library and without a safety net.

``by hand`` is a floor for whoever keeps memory bounded and does not map the file: read into reused buffers, SHA-256 in
a thread of its own, CRC64NVME for each part, two bare sockets. No retries, no errors, no model of S3: the answers are
not even looked at. ``by hand, signed`` hashes each part once more, as a signed payload asks for.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from urllib.parse import urlsplit

from benchmarks.job import MIB, Job, Work, mapped, sha256

__all__ = ["FLOORS"]

Make = Callable[[Job], Work]
Views = SimpleQueue["tuple[memoryview, Callable[[], object]] | None"]

PART = 16 * MIB
BUFFERS = 3
SENDERS = 2
BLOCKS = 8


def sha256_alone(job: Job) -> Work:
    """SHA-256 alone over the mapped file."""
    return lambda: {"sha256": sha256(mapped(job.path))}


def sha256_and_crc64(job: Job) -> Work:
    """SHA-256 and CRC64NVME of the same 256 KiB, one after the other."""
    from awscrt.checksums import crc64nvme

    def work() -> dict[str, Any]:
        digest, crc, view = hashlib.sha256(), 0, mapped(job.path)
        for at in range(0, len(view), MIB // 4):
            digest.update(view[at : at + MIB // 4])
            crc = crc64nvme(view[at : at + MIB // 4], crc)
        return {"sha256": digest.hexdigest()}

    return work


def _connect(job: Job) -> socket.socket:
    parts = urlsplit(job.endpoint)
    sock = socket.create_connection((parts.hostname or "", parts.port or 80))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if job.https:
        return ssl.create_default_context(cafile=job.authority).wrap_socket(sock, server_hostname=parts.hostname)
    return sock


def _hash_apart(views: Views, digest: Any) -> threading.Thread:
    def run() -> None:
        while (item := views.get()) is not None:
            digest.update(item[0])
            item[1]()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


class _PartBuffer:
    """A part's memory; free again once it was both hashed and sent."""

    def __init__(self, free: SimpleQueue[_PartBuffer]) -> None:
        self._free, self._lock, self._holders = free, threading.Lock(), 0
        self.view = memoryview(bytearray(PART))

    def hold(self) -> None:
        self._holders = 2

    def release(self) -> None:
        with self._lock:
            self._holders -= 1
            if not self._holders:
                self._free.put(self)


Parts = SimpleQueue["tuple[int, _PartBuffer, int] | None"]


def _send(job: Job, parts: Parts, *, signed: bool) -> None:
    with contextlib.closing(_connect(job)) as sock:
        while (item := parts.get()) is not None:
            number, buffer, size = item
            head = f"PUT /{job.bucket}/{job.key}?partNumber={number}&uploadId=x HTTP/1.1\r\nHost: x\r\n"
            blocks = [buffer.view[at : min(at + MIB, size)] for at in range(0, size, MIB)]
            sock.sendall(f"{head}{_checksums(blocks, signed=signed)}Content-Length: {size}\r\n\r\n".encode())
            for block in blocks:
                sock.sendall(block)
            sock.recv(4096)
            buffer.release()


def _checksums(blocks: list[memoryview], *, signed: bool) -> str:
    from awscrt.checksums import crc64nvme

    crc, digest = 0, hashlib.sha256()
    for block in blocks:
        crc = crc64nvme(block, crc)
        if signed:
            digest.update(block)
    named = f"x-amz-content-sha256: {digest.hexdigest()}\r\n" if signed else ""
    return f"x-amz-checksum-crc64nvme: {crc:016x}\r\n{named}"


def _upload(job: Job, *, signed: bool) -> dict[str, Any]:
    digest = hashlib.sha256()
    free: SimpleQueue[_PartBuffer] = SimpleQueue()
    for _ in range(BUFFERS):
        free.put(_PartBuffer(free))
    parts, views = Parts(), Views()
    senders = [threading.Thread(target=_send, args=(job, parts), kwargs={"signed": signed}) for _ in range(SENDERS)]
    for sender in senders:
        sender.start()
    hashing = _hash_apart(views, digest)
    with Path(job.path).open("rb", buffering=0) as file:
        for number in range(1, -(-job.size // PART) + 1):
            buffer = free.get()
            buffer.hold()
            size: int = file.readinto(buffer.view)  # type: ignore[attr-defined]  # unbuffered files have it
            views.put((buffer.view[:size], buffer.release))
            parts.put((number, buffer, size))
    for _ in senders:
        parts.put(None)
    views.put(None)
    for thread in [*senders, hashing]:
        thread.join()
    return {"sha256": digest.hexdigest()}


def upload_by_hand(job: Job) -> Work:
    """Read into reused buffers, hash in a thread, send over two sockets."""
    return lambda: _upload(job, signed=False)


def upload_by_hand_signed(job: Job) -> Work:
    """The same with SHA-256 of each part as well."""
    return lambda: _upload(job, signed=True)


def download_by_hand(job: Job) -> Work:
    """Receive into reused buffers; one thread hashes and writes."""

    def work() -> dict[str, Any]:
        digest = hashlib.sha256()
        free: SimpleQueue[memoryview] = SimpleQueue()
        for _ in range(BLOCKS):
            free.put(memoryview(bytearray(MIB)))
        views = Views()
        with Path(job.path).open("wb", buffering=0) as file, contextlib.closing(_connect(job)) as sock:
            sock.sendall(f"GET /{job.bucket}/{job.key} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            rest = b""
            while b"\r\n\r\n" not in rest:
                rest += sock.recv(4096)
            body = rest.partition(b"\r\n\r\n")[2]
            digest.update(body)
            file.write(body)
            hashing, received = _hash_apart(views, digest), len(body)
            while received < job.size:
                memory = free.get()
                count = sock.recv_into(memory[: job.size - received], flags=0 if job.https else socket.MSG_WAITALL)
                received += count
                views.put(
                    (memory[:count], lambda part=memory[:count], memory=memory: (file.write(part), free.put(memory)))
                )
            views.put(None)
            hashing.join()
        return {"sha256": digest.hexdigest()}

    return work


FLOORS: dict[str, dict[str, Make]] = {
    "SHA-256 alone": {"upload": sha256_alone, "download": sha256_alone},
    "SHA-256 and CRC64NVME": {"upload": sha256_and_crc64},
    "by hand": {"upload": upload_by_hand, "download": download_by_hand},
    "by hand, signed": {"upload": upload_by_hand_signed},
}

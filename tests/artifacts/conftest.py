"""Stores that the contract is held against, and small helpers of the tests of ``artifacts``."""

from __future__ import annotations

import secrets
import ssl
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.shelf import BreakingStore, Shelf

from stepout.artifacts.memory import MemoryStore
from stepout.artifacts.process.budget import process_budget
from stepout.artifacts.s3.clients import profile_named
from stepout.artifacts.s3.store import S3Store
from stepout.artifacts.store_writes import StoreProfile

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepout.artifacts.store import Store

PARTS = StoreProfile(name="compatible", multipart_checksum="parts")
CRC32 = StoreProfile(multipart_checksum="crc32")

STORES = ["memory", "seaweed"]
PROFILES = ["memory-crc32", "memory-parts", "seaweed-crc32", "seaweed-parts"]
if find_spec("support.ministack") is not None:
    STORES.append("ministack")


def _seaweed(request: pytest.FixtureRequest, profile: StoreProfile) -> Store:
    return S3Store(
        request.getfixturevalue("seaweed_client"),
        request.getfixturevalue("bucket"),
        profile=profile,
        request_payer=None,
    )


def _ministack(request: pytest.FixtureRequest) -> Store:
    client: Any = request.getfixturevalue("local_aws").client("s3")
    name = f"contract-{secrets.token_hex(6)}"
    client.create_bucket(Bucket=name)
    return S3Store(client, name, profile=profile_named("compatible"))


def _make(request: pytest.FixtureRequest) -> Store:
    if request.param == "ministack":
        return _ministack(request)
    kind, _, profile = request.param.partition("-")
    settled = {"": StoreProfile(), "crc32": CRC32, "parts": PARTS}[profile]
    if kind == "memory":
        return MemoryStore("memory", profile=settled)
    return _seaweed(request, settled)


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> Store:
    """An empty bucket in each store that we promise to work with."""
    return _make(request)


@pytest.fixture(params=STORES + PROFILES)
def profiled(request: pytest.FixtureRequest) -> Store:
    """The same, in every profile: they differ in multipart uploads only."""
    return _make(request)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ssl.SSLContext]:
    """What a client trusts, and what a server of 127.0.0.1 shows."""
    folder = tmp_path_factory.mktemp("certificate")
    script = "import sys, pathlib\nfrom benchmarks.certificate import make_certificate\n"
    script += "print(*make_certificate(pathlib.Path(sys.argv[1])), sep='\\n')"
    command = [sys.executable, "-c", script, str(folder)]
    root = Path(__file__).resolve().parents[2]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300, check=True)
    authority, server = run.stdout.splitlines()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server)
    return authority, context


@pytest.fixture(autouse=True)
def _nothing_learned() -> None:
    """Nothing is known of any server yet, whatever ran before in this process."""
    process_budget()._servers.clear()


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No request is late, however busy the machine is; tests of those that are have a clock of their own.

    Nor does an endpoint for a container's credentials, on this machine, seem to be none.
    """
    monkeypatch.setattr("stepout.artifacts.s3.routes.container_credentials._SECONDS", 60.0)
    monkeypatch.setattr("stepout.artifacts.transfer.tails.NEAR_LATE", 3600.0)
    monkeypatch.setattr("stepout.artifacts.transfer.tails.FAR_LATE", 3600.0)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries follow each other at once."""
    monkeypatch.setattr("stepout.artifacts.retries.RetryPolicy.pause_before", lambda *_: 0.01)


@pytest.fixture
def shelf() -> Shelf:
    """A bucket in memory."""
    return Shelf()


@pytest.fixture
def breaking(shelf: Shelf) -> Callable[..., BreakingStore]:
    """Make a store whose downloads break after the given numbers of bytes."""
    return lambda *lengths: BreakingStore(shelf.store, list(lengths))

"""Networks that are bad in a known way: what is written is whole and verified, or there is a clear error.

Counts of requests, bytes and connections are compared, never times. Where a wait of the library would take seconds, the
test shortens it. ``docs/explanation/failure-semantics.md`` says how long each fault takes.
"""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.bad_networks import Blackhole, Name, has_ipv6
from support.fast_store import fast_store
from support.seaweed import ADMIN
from support.wire import Fault, Wire, operation

from stepout import ANY_BUCKET, ArtifactManager, resolve_artifact
from stepout.artifacts.process.budget import CONNECTIONS
from stepout.artifacts.retries import READ_RETRIES, READS, WRITES
from stepout.artifacts.s3.clients import make_client, profile_named
from stepout.artifacts.s3.connections import watch as connection_watch
from stepout.artifacts.s3.connections.addresses import STAGGER_SECONDS
from stepout.artifacts.s3.connections.limit import GROWS_AFTER
from stepout.artifacts.s3.store import S3Store
from stepout.artifacts.transfer.plan import TransferSettings
from stepout.schemas.errors import StoreUnavailableError
from stepout.schemas.runtime.process import PerProcess

if TYPE_CHECKING:
    import ssl

    from support.seaweed import Seaweed

    from stepout import Pointer
    from stepout.artifacts.s3.fast_store import FastS3Store

MIB = 1 << 20
LARGE = os.urandom(40 * MIB)
COMPATIBLE = profile_named("compatible")
KEYS: dict[str, Any] = {"aws_access_key_id": ADMIN.access_key, "aws_secret_access_key": ADMIN.secret_key}
SETTINGS = TransferSettings()


@pytest.fixture(autouse=True)
def _account(seaweed_client: Any) -> None:
    """The server has its account."""


def _store(endpoint: str, bucket: str, **options: Any) -> FastS3Store:
    # A client of our own, as it is where none is passed.
    client = PerProcess(
        lambda: make_client(endpoint_url=endpoint, region="us-east-1", profile=COMPATIBLE, tries=1, **KEYS, **options)
    )
    return fast_store(client, bucket, obstore=False, profile=COMPATIBLE, retries=READ_RETRIES)


def _written(store: FastS3Store, data: bytes = LARGE, name: str = "large") -> Pointer:
    return ArtifactManager(store, "runs", settings=SETTINGS).put_bytes(name, data)


def _read(store: FastS3Store, pointer: Pointer, tmp_path: Path) -> bytes:
    target = tmp_path / "copy"
    resolve_artifact(pointer, client=store, allow=ANY_BUCKET).download(target)
    return target.read_bytes()


def _sent_twice(wire: Wire, kind: str) -> list[str]:
    lines = [line for line in wire.lines if operation(line) == kind]
    return sorted({line for line in lines if lines.count(line) > 2})


class _Once:
    """Satisfied by the first request of each line, which differs from part to part and from range to range."""

    def __init__(self, kind: str) -> None:
        self._kind, self._seen, self._lock = kind, set[str](), threading.Lock()

    def __call__(self, line: str) -> bool:
        """Say whether the line is the first of its kind."""
        if operation(line) != self._kind:
            return False
        with self._lock:
            new = line not in self._seen
            self._seen.add(line)
        return new


# Connections that die in the middle of each part ----------------------------------------------------------------------


def test_each_part_whose_connection_dies_is_sent_once_more(seaweed: Seaweed, bucket: str) -> None:
    """And the object is whole."""
    with Wire(seaweed.endpoint, keep_alive=True) as wire:
        wire.arm(Fault(_Once("UploadPart"), "cut", 10_000))
        store = _store(wire.endpoint, bucket)
        pointer = _written(store)
        assert pointer.size == len(LARGE)
        parts = wire.operations.count("UploadPart")
        assert parts >= 4
        assert _sent_twice(wire, "UploadPart") == []
        resolve_artifact(pointer, client=store, allow=ANY_BUCKET).verify()


def test_each_range_whose_connection_dies_is_taken_up_where_it_broke(
    seaweed: Seaweed, bucket: str, tmp_path: Path
) -> None:
    """Every answer ends in its middle, and no byte is asked for a third time."""
    with Wire(seaweed.endpoint, keep_alive=True) as wire:
        store = _store(wire.endpoint, bucket)
        pointer = _written(store)
        wire.lines.clear()
        wire.arm(Fault(_Once("GetObject"), "truncate", 10_000))
        assert _read(store, pointer, tmp_path) == LARGE


# A proxy that limits to four connections ------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # ssl, as a peer resets before TLS
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("beyond", ["refuse", "reset", "silence", "backlog"])
def test_a_transfer_gets_along_with_four_connections(  # noqa: PLR0913, PLR0917 - fixtures
    beyond: Any,
    scheme: str,
    seaweed: Seaweed,
    bucket: str,
    tmp_path: Path,
    certificate: tuple[str, ssl.SSLContext],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It learns how many there may be; both ways are done and verified, with few attempts beyond the limit."""
    if beyond in ("silence", "backlog"):
        monkeypatch.setattr(connection_watch, "PROOF_SECONDS", 3.0)
        monkeypatch.setattr(connection_watch, "SEND_SECONDS", 3.0)
        monkeypatch.setattr("stepout.artifacts.s3.connections.pools.OPEN_SECONDS", 3.0)
    tls = certificate[1] if scheme == "https" else None
    verify = {"verify": certificate[0]} if tls else {}
    with Wire(seaweed.endpoint, keep_alive=True, tls=tls, limit=4, beyond=beyond, delay=0.05) as wire:
        store = _store(wire.endpoint, bucket, **verify)
        pointer = _written(store)
        assert _read(store, pointer, tmp_path) == LARGE
        assert wire.turned_away <= 16


# Addresses of a name --------------------------------------------------------------------------------------------------


def test_one_slow_server_among_the_addresses_gets_hardly_any_requests(
    seaweed: Seaweed, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four threads read a hundred and twenty small objects; most come from the others once a few have been slow."""
    with (
        Wire(seaweed.endpoint, keep_alive=True, delay=2.0) as slow,
        Wire(seaweed.endpoint, keep_alive=True) as one,
        Wire(seaweed.endpoint, keep_alive=True) as other,
    ):
        name = Name(monkeypatch, [(socket.AF_INET, wire.address) for wire in (slow, one, other)])
        store = _store(name.url, bucket)
        pointer = _written(store, b"content", "small")

        def read() -> None:
            for _ in range(30):
                assert resolve_artifact(pointer, client=store, allow=ANY_BUCKET).read_bytes() == b"content"

        threads = [threading.Thread(target=read) for _ in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join(120)
        assert len(slow.lines) <= 20
        assert len(one.lines) + len(other.lines) >= 100


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_ipv6_that_goes_nowhere_keeps_nobody(  # noqa: PLR0913, PLR0917 - fixtures
    scheme: str,
    seaweed: Seaweed,
    bucket: str,
    tmp_path: Path,
    certificate: tuple[str, ssl.SSLContext],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every name is looked up with IPv6 first; all work is done over IPv4, and no connect timeout has run out."""
    monkeypatch.setattr("stepout.artifacts.s3.connections.pools.OPEN_SECONDS", 3600.0)
    tls = certificate[1] if scheme == "https" else None
    with Wire(seaweed.endpoint, keep_alive=True, tls=tls) as wire, Blackhole("::1") as hole:
        host, port = wire.address
        name = Name(monkeypatch, [(hole.family, hole.place), (socket.AF_INET, wire.address)], host=host, port=port)
        store = _store(wire.endpoint, bucket, **({"verify": certificate[0]} if tls else {}))
        pointer = _written(store)
        assert _read(store, pointer, tmp_path) == LARGE
        assert wire.accepted == name.asked


def test_a_name_all_of_whose_addresses_are_silent_is_an_error(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the server, and comes after one wait for all addresses, not one for each."""
    monkeypatch.setattr("stepout.artifacts.s3.connections.pools.OPEN_SECONDS", 1.0)
    with Blackhole() as hole:
        name = Name(monkeypatch, [(hole.family, hole.place)] * 2)
        store = S3Store(make_client(endpoint_url=name.url, region="us-east-1", tries=1, **KEYS), bucket)
        with pytest.raises(StoreUnavailableError, match=rf"timed out to {name.url}.*ConnectTimeoutError"):
            store.head("key")
        assert name.asked == 1


# A load balancer that closes idle connections -------------------------------------------------------------------------


@pytest.mark.parametrize("light", [True, False])
def test_idle_connections_that_were_closed_are_noticed(seaweed: Seaweed, bucket: str, light: bool) -> None:
    """On every route: nothing fails, no request is sent twice."""
    with Wire(seaweed.endpoint, keep_alive=True) as wire:
        store = _store(wire.endpoint, bucket)
        if not light:
            store._light = False
        manager = ArtifactManager(store, "runs")
        pointers = [manager.put_bytes(f"before_{number}", b"content") for number in range(3)]
        for number in range(3):
            assert wire.close_idle() == 1
            pointers.append(manager.put_bytes(f"after_{number}", b"content"))
            assert wire.close_idle() == 1
            assert resolve_artifact(pointers[-1], client=store, allow=ANY_BUCKET).read_bytes() == b"content"
        after = [line for line in wire.lines if "/after_" in line]
        assert len(after) == 6
        assert len(set(after)) == 6


def test_a_put_whose_connection_is_reset_as_it_is_sent_is_repeated(seaweed: Seaweed, bucket: str) -> None:
    """The balancer has forgotten the connection, and says so when something comes."""
    with Wire(seaweed.endpoint, keep_alive=True) as wire:
        store = _store(wire.endpoint, bucket)
        manager = ArtifactManager(store, "runs")
        manager.put_bytes("before", b"content")
        wire.when("PutObject", "reset")
        pointer = manager.put_bytes("after", b"content")
        assert resolve_artifact(pointer, client=store, allow=ANY_BUCKET).read_bytes() == b"content"


def test_idle_connections_that_were_forgotten_in_silence_are_given_up_early(
    seaweed: Seaweed, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the short wait, once: the request goes out again on a new connection, and so do all others."""
    patience = iter([0.5])  # of the connection that was forgotten; any other one is waited for
    monkeypatch.setattr(connection_watch, "DOUBT_SECONDS", -1.0)  # what has just been used counts as idle for long
    with Wire(seaweed.endpoint, keep_alive=True) as wire:
        store = _store(wire.endpoint, bucket)
        pointer = _written(store, b"content", "small")
        assert resolve_artifact(pointer, client=store, allow=ANY_BUCKET).read_bytes() == b"content"
        asked = len(wire.lines)
        assert wire.close_idle(silently=True) == 1
        monkeypatch.setattr(connection_watch.ConnectionWatch, "patience", property(lambda _: next(patience, None)))
        assert resolve_artifact(pointer, client=store, allow=ANY_BUCKET).read_bytes() == b"content"
        assert len(wire.lines) == asked + 1  # the first one was heard by nobody


# Loss -----------------------------------------------------------------------------------------------------------------


def test_one_per_cent_of_loss() -> None:
    """Needs the kernel's netem, which needs root and a module."""
    modules = Path("/proc/modules")
    if os.geteuid() or not modules.exists() or "sch_netem" not in modules.read_text():
        pytest.skip("no netem in this kernel: loss was not tried")


# What the documentation promises --------------------------------------------------------------------------------------


def test_the_waits_are_those_of_the_page() -> None:
    """Each constant stands in the row that is about it."""
    page = Path(__file__).resolve().parents[2] / "docs" / "explanation" / "failure-semantics.md"
    table = page.read_text().partition("## How long until which error")[2].partition("\n## ")[0]
    rows = {row.split("|")[1].strip(): row for row in table.splitlines() if row.startswith("| ")}

    def said(beginning: str, *expected: str) -> None:
        (row,) = [row for what, row in rows.items() if what.startswith(beginning)]
        for text in expected:
            assert text in row, f"{text!r} is not in {row}"

    said("an address that does not answer", f"{STAGGER_SECONDS:g} s")
    said("no address answers", f"{connection_watch.OPEN_SECONDS:g} s")
    said("connected, and TLS", f"{connection_watch.OPEN_SECONDS:g} s")
    said("a part cannot", f"{connection_watch.SEND_SECONDS:g} s", f"{connection_watch.LOST_SECONDS:g} s")
    said("a part cannot", f"{(1 << 20) / connection_watch.SEND_SECONDS / 1000:.0f} KB/s")
    said("no answer to a GET", f"{connection_watch.DOUBT_SECONDS:g} s", f"{connection_watch.PROOF_SECONDS:g} s")
    said("fewer connections", f"{GROWS_AFTER:g} s")
    said("an idle connection", f"{connection_watch.IDLE_SECONDS:g} s")
    assert f"| no answer | {connection_watch.READ_SECONDS:g} s without a byte" in table
    assert (WRITES.tries, READS.tries) == (6, 3)
    assert f"{WRITES.pause_before(2, 0.0):g} to {WRITES.longest_pause:g} s" in table
    assert f"{WRITES.seconds:g} s after the first" in table


def test_our_clients_wait_as_long_as_the_page_says() -> None:
    """And keep a connection for every transfer of a process."""
    config = make_client(endpoint_url="http://127.0.0.1:9", region="us-east-1", **KEYS).meta.config
    assert config.connect_timeout == connection_watch.SEND_SECONDS
    assert config.read_timeout == connection_watch.READ_SECONDS
    assert config.max_pool_connections == CONNECTIONS

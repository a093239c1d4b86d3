"""TLS: authorities are read once for all connections, and what a server sends unasked closes none."""

from __future__ import annotations

import ssl
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.seaweed import ADMIN
from support.wire import Wire

from stepout.artifacts.s3.clients import make_client
from stepout.artifacts.s3.connections.tls import Authorities
from stepout.artifacts.s3.store import S3Store
from stepout.schemas.errors import ArtifactNotFoundError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.seaweed import Seaweed


@pytest.fixture
def secure(seaweed: Seaweed, seaweed_client: Any, certificate: tuple[str, ssl.SSLContext]) -> Iterator[Wire]:  # noqa: ARG001
    """A proxy that speaks TLS before a real server; each request has a connection of its own."""
    with Wire(seaweed.endpoint, tls=certificate[1]) as found:
        yield found


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files of authorities that were read into a context."""
    files: list[str] = []

    class Counting(ssl.SSLContext):
        def load_verify_locations(self, cafile: Any = None, capath: Any = None, cadata: Any = None) -> None:
            files.append(cafile)
            super().load_verify_locations(cafile, capath, cadata)

    monkeypatch.setattr("botocore.httpsession.SSLContext", Counting)
    return files


def _store(wire: Wire) -> S3Store:
    keys: dict[str, Any] = {"aws_access_key_id": ADMIN.access_key, "aws_secret_access_key": ADMIN.secret_key}
    return S3Store(make_client(endpoint_url=wire.endpoint, region="us-east-1", **keys), "results")


def _ask(store: S3Store) -> None:
    with pytest.raises(ArtifactNotFoundError):
        store.head("nothing")


def test_many_connections_read_the_authorities_once(
    secure: Wire, certificate: tuple[str, ssl.SSLContext], read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those that are opened at the same time."""
    monkeypatch.setenv("AWS_CA_BUNDLE", certificate[0])
    store = _store(secure)
    threads = [threading.Thread(target=_ask, args=(store,)) for _ in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert secure.accepted >= 6
    assert read == [certificate[0]]


def test_a_file_that_changes_is_read_again(
    secure: Wire,
    certificate: tuple[str, ssl.SSLContext],
    read: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A job of a day outlives its platform's certificates."""
    bundle = tmp_path / "bundle.pem"
    bundle.write_text(Path(certificate[0]).read_text())
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    store = _store(secure)
    _ask(store)
    bundle.write_text("\n" + Path(certificate[0]).read_text())
    _ask(store)
    assert read == [str(bundle)] * 2


def test_a_server_of_another_authority_is_not_trusted(
    secure: Wire, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it is the first connection or a later one."""
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    store = _store(secure)
    for _ in range(2):
        with pytest.raises(StoreError, match="SSLError"):
            store.head("nothing")
    assert len(read) == 1


def test_a_file_that_cannot_be_read_is_left_to_who_connects(tmp_path: Path) -> None:
    """It says what is wrong with it."""
    empty = tmp_path / "empty.pem"
    empty.touch()
    authorities, context = Authorities(), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    assert not authorities.read_into(context, str(empty))
    assert not authorities.read_into(context, str(tmp_path / "absent.pem"))

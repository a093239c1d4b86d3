"""``resolve(settings=TransferSettings(…))``: what each read of an artifact may use."""

from __future__ import annotations

import os
import pickle
from typing import TYPE_CHECKING, Any

import pytest
from support.seaweed import ADMIN
from support.wire import Wire

import stepout
from stepout import ANY_BUCKET, ArtifactManager, TransferSettings, resolve_artifact, resolve_output
from stepout.artifacts.process.budget import process_budget
from stepout.artifacts.s3.clients import make_client, profile_named
from stepout.schemas import TaskOutput
from stepout.schemas.errors import ConfigurationError
from stepout.testing import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.seaweed import Seaweed

    from stepout import Output


MIB = 1 << 20
LARGE = os.urandom(40 * MIB)
SMALL = os.urandom(100_000)


@pytest.fixture
def document(seaweed_client: Any, bucket: str, tmp_path: Path) -> dict[str, Any]:
    """An output with a large artifact, small ones, and a directory."""
    manager = ArtifactManager(bucket, "runs", client=seaweed_client)
    folder = tmp_path / "folder"
    folder.mkdir()
    for number in range(12):
        (folder / str(number)).write_bytes(SMALL)
    (folder / "large").write_bytes(LARGE)
    manager.put_bytes("large", LARGE)
    manager.put_directory("folder", folder)
    for number in range(12):
        manager.put_bytes(f"small_{number}", SMALL)
    return TaskOutput(artifacts=dict(manager.pointers)).to_dict()


@pytest.fixture
def wire(seaweed: Seaweed) -> Iterator[Wire]:
    """A proxy that counts connections."""
    with Wire(seaweed.endpoint, keep_alive=True) as found:
        yield found


def _resolved(document: dict[str, Any], wire: Wire, connections: int) -> Output:
    keys: dict[str, Any] = {"aws_access_key_id": ADMIN.access_key, "aws_secret_access_key": ADMIN.secret_key}
    client = make_client(endpoint_url=wire.endpoint, region="us-east-1", profile=profile_named("compatible"), **keys)
    settings = TransferSettings(connections=connections, memory=32 * MIB)
    found = resolve_output(document, allow=ANY_BUCKET, client=client, settings=settings)
    store = found["large"].access.stores.of(found["large"].pointer.bucket)
    process_budget().server(store).saw_latency(0.05)  # far away: ranges side by side are worth it
    return found


def _streamed(output: Output, _: Path) -> None:
    with output["large"].open() as file:
        while file.read(MIB):
            pass
        file.seek(30 * MIB)
        assert file.read(MIB) == LARGE[30 * MIB : 31 * MIB]


READS: dict[str, Callable[[Any, Path], object]] = {
    "read_bytes": lambda output, _: output["large"].read_bytes(),
    "download": lambda output, folder: output["large"].download(folder / "large.bin"),
    "verify": lambda output, _: output["large"].verify(),
    "open": _streamed,
    "read_many": lambda output, _: dict(output.read_many()) and None,
    "directory": lambda output, folder: output["folder"].download(folder / "there"),
    "verify a directory": lambda output, _: output["folder"].verify(),
}


@pytest.mark.parametrize("connections", [1, 3])
@pytest.mark.parametrize("read", READS)
def test_a_read_opens_no_more_connections_than_its_settings_allow(
    read: str, connections: int, document: dict[str, Any], wire: Wire, tmp_path: Path
) -> None:
    """The client's pool has as many as have been in use at once."""
    output = _resolved(document, wire, connections)
    if read == "read_many":
        output = output.__class__(
            TaskOutput(artifacts={k: v.pointer for k, v in output.items() if k != "folder"}), output["large"].access
        )
    READS[read](output, tmp_path)
    assert 1 <= wire.accepted <= connections


def test_settings_travel_with_what_was_resolved() -> None:
    """To other processes, and to all that an output leads to."""
    store = MemoryStore("results")
    pointer = ArtifactManager(store, "runs").put_bytes("a", b"content")
    settings = TransferSettings(connections=2, memory=32 * MIB)
    document = TaskOutput(artifacts={"a": pointer}).to_dict()
    options: dict[str, Any] = {"allow": ANY_BUCKET, "settings": settings}
    outputs: list[Any] = [
        resolve_output(document, **options),
        stepout.resolve(document, **options),
        stepout.resolve_all(document, **options)["$"],
    ]
    resolved = [resolve_artifact(pointer.to_dict(), **options), *(each["a"] for each in outputs)]
    for found in resolved:
        assert found.access.settings == settings
        assert pickle.loads(pickle.dumps(found)).access.settings == settings
    assert resolve_artifact(pointer.to_dict(), allow=ANY_BUCKET).access.settings is None


def test_what_is_no_settings_is_refused() -> None:
    """Before anything is read."""
    with pytest.raises(ConfigurationError, match=r"settings= is a dict: expected TransferSettings\(…\), or None"):
        resolve_artifact({}, allow=ANY_BUCKET, settings={"connections": 1})  # type: ignore[arg-type] # that is the test

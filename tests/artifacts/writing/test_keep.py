"""How long objects are kept: the tag that lifecycle rules look at, and the time in the pointer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from stepout.artifacts.manager import ArtifactManager
from stepout.artifacts.memory import MemoryStore
from stepout.artifacts.retention import duration_of, keep_days, keep_of
from stepout.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def _manager(store: MemoryStore, **given: Any) -> ArtifactManager:
    return ArtifactManager(store, clock=lambda: NOW, **given)


@pytest.mark.parametrize(
    ("keep", "tag", "until"),
    [
        ("30d", "30d", "2026-01-31T00:00:00Z"),
        ("12h", "1d", "2026-01-01T12:00:00Z"),
        ("8w", "56d", "2026-02-26T00:00:00Z"),
        (timedelta(days=1, seconds=1), "2d", "2026-01-02T00:00:01Z"),
    ],
)
def test_the_tag_is_rounded_up_to_days_and_the_pointer_is_exact(keep: Any, tag: str, until: str) -> None:
    """A lifecycle rule counts whole days, so it never removes an object before its pointer says so."""
    store = MemoryStore()
    pointer = _manager(store, keep=keep).put("a", b"1")
    assert store.objects[pointer.key].options.tags == {"stepout-keep": tag}
    assert pointer.expires_at == until


def test_every_object_of_an_artifact_has_the_tag(tmp_path: Path) -> None:
    """Files of directories and datasets, their listings and manifests, lists of blocks and documents alike."""
    import pyarrow as pa

    (tmp_path / "a.txt").write_text("a")
    store = MemoryStore()
    manager = _manager(store, keep="30d", tags={"team": "maps"})
    manager.put_directory("folder", tmp_path)
    manager.put_dataset("data", pa.table({"day": ["1", "2"], "n": [1, 2]}), partition_by=["day"])
    manager.put_bytes("many", bytes(9 << 20), blocks="sha256")
    manager.put_document("stepout-output", {})
    with manager.open("stream") as sink:
        sink.write(b"1")
    assert any("/blocks-" in key for key in store.keys())  # noqa: SIM118 - a store's, not a dict's
    for key, stored in store.objects.items():
        assert stored.options.tags == {"team": "maps", "stepout-keep": "30d"}, key
    assert {pointer.expires_at for pointer in manager.pointers.values()} == {"2026-01-31T00:00:00Z"}


def test_one_put_can_be_kept_otherwise_and_later_puts_have_later_times() -> None:
    """``keep`` of a put replaces the manager's; ``expires_at`` alone says when, without a tag."""
    store, now = MemoryStore(), [NOW]
    manager = ArtifactManager(store, keep="30d", clock=lambda: now[0])
    short = manager.put("short", b"1", keep="1d")
    alone = manager.put("alone", b"1", expires_at="2027-01-01T00:00:00Z")
    now[0] += timedelta(days=1)
    later = [manager.put(name, b"1") for name in ("b", "c")]
    assert store.objects[short.key].options.tags == {"stepout-keep": "1d"}
    assert short.expires_at == "2026-01-02T00:00:00Z"
    assert (store.objects[alone.key].options.tags, alone.expires_at) == ({}, "2027-01-01T00:00:00Z")
    assert {each.expires_at for each in later} == {"2026-02-01T00:00:00Z"}


def test_an_adopted_object_is_not_kept_by_this_manager() -> None:
    """Whoever wrote it decides; ``keep=`` for it is refused."""
    store = MemoryStore()
    theirs = ArtifactManager(store, "theirs").put("a", b"1")
    manager = _manager(store, keep="30d")
    assert manager.adopt("a", theirs.url, verify="read").expires_at is None
    with pytest.raises(ConfigurationError, match="keep= is for what is written here"):
        manager.adopt("b", theirs.url, verify="read", keep="1d")


@pytest.mark.parametrize("keep", ["", "30", "30 d", "-1d", "0d", "1.5d", "40000d", 30, timedelta(0), "1y"])
def test_what_is_no_time_is_refused(keep: Any) -> None:
    """By the manager, before anything is sent."""
    with pytest.raises(ConfigurationError):
        ArtifactManager(MemoryStore(), keep=keep)


def test_the_tag_counts_among_the_ten_that_s3_takes() -> None:
    """Nine are left; its name is ours; and ``keep`` and ``expires_at`` of one put contradict each other."""
    tags = {f"t{n}": "" for n in range(10)}
    with pytest.raises(ConfigurationError, match="keep= needs one of them"):
        ArtifactManager(MemoryStore(), tags=tags, keep="1d").put("a", b"1")
    with pytest.raises(ConfigurationError, match="is what keep= writes"):
        ArtifactManager(MemoryStore(), tags={"stepout-keep": "1d"})
    with pytest.raises(ConfigurationError, match="both keep and expires_at"):
        ArtifactManager(MemoryStore()).put("a", b"1", keep="1d", expires_at="2027-01-01T00:00:00Z")


def test_durations_are_whole_numbers_with_a_unit() -> None:
    """Seconds to weeks."""
    assert [duration_of(text).total_seconds() for text in ("0s", "90s", "2m", "1h", "1d", "1w")] == [
        *(0, 90, 120, 3_600, 86_400, 604_800),
    ]
    assert keep_of(None) is None
    assert keep_days(timedelta(days=2)) == 2

"""What the process was granted, by whom, and what follows from it: shares, a line in the log, memory that is taken."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.forked_child import begin_child, exit_code

from stepout.artifacts import TransferSettings
from stepout.artifacts.process import memory_granted as container_memory
from stepout.artifacts.process.budget import LEAST_MEMORY, told_budget
from stepout.artifacts.process.memory_granted import (
    GrantedMemory,
    find_memory,
    granted_memory,
    least_of,
    process_share,
    transfer_share,
)
from stepout.artifacts.read_limit import read_limit
from stepout.artifacts.transfer.worker_pool import usual_memory
from stepout.schemas.runtime.process import PerProcess

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MIB = 1 << 20
GIB = 1 << 30
SOURCES = ["Lambda", "cgroup", "resource limit", "machine"]


def grant(monkeypatch: pytest.MonkeyPatch, found: GrantedMemory) -> None:
    """Let this process have been granted so much."""
    monkeypatch.setattr(container_memory, "_GRANTED", PerProcess(lambda: found))


# Sources --------------------------------------------------------------------------------------------------------------


@given(st.dictionaries(st.sampled_from(SOURCES), st.none() | st.integers(-5, 1 << 64)))
def test_the_least_grant_counts_and_is_named(grants: dict[str, int | None]) -> None:
    """Sources that say nothing, or nonsense, are passed over."""
    found = least_of(grants)
    known = [grant for grant in grants.values() if grant is not None and grant > 0]
    assert found.size == (min(known) if known else None)
    assert found.source == "unknown" if not known else grants[found.source] == found.size


def groups(folder: Path, lines: str, files: dict[str, str]) -> tuple[str, str]:
    """Control groups as Linux shows them."""
    (folder / "self").write_text(lines)
    for name, text in files.items():
        path = folder / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(folder / "cgroup"), str(folder / "self")


_V1 = "memory/memory.limit_in_bytes"
_NO_LIMIT = "9223372036854771712\n"
GROUPS: dict[str, tuple[str, dict[str, str], int | None]] = {
    "version 2": ("0::/\n", {"memory.max": "67108864\n"}, 64),
    "version 2, a group above": ("0::/a/b\n", {"a/b/memory.max": "max\n", "a/memory.max": "33554432\n"}, 32),
    "version 2, the host's path": ("0::/docker/12ab\n", {"memory.max": "67108864\n"}, 64),
    "version 2, outside of the root": ("0::/../..\n", {"memory.max": "67108864\n"}, 64),
    "version 2, slowed down beyond": ("0::/\n", {"memory.max": "67108864\n", "memory.high": "33554432\n"}, 32),
    "version 1": ("5:cpu:/x\n4:memory:/x\n", {"memory/x/memory.limit_in_bytes": "16777216\n"}, 16),
    "version 1, the host's path": ("4:memory:/ecs/1\n", {_V1: "16777216\n"}, 16),
    "version 1, a group above that is not mounted": (
        "4:memory:/ecs/task/container\n",
        {_V1: _NO_LIMIT, "memory/memory.stat": "cache 1\nhierarchical_memory_limit 16777216\ntotal_cache 1\n"},
        16,
    ),
    "both": ("4:memory:/\n0::/\n", {_V1: "16777216", "memory.max": "8388608"}, 8),
    "version 1, no limit": ("4:memory:/\n", {_V1: _NO_LIMIT}, None),
    "version 2, no limit": ("0::/\n", {"memory.max": "max\n", "memory.high": "max\n"}, None),
    "no numbers": ("0::/\n", {"memory.max": "many\n"}, None),
    "no groups": ("", {}, None),
    "another system's file": ("nonsense", {}, None),
}


@pytest.mark.parametrize("case", GROUPS)
def test_control_groups_say_what_was_granted(tmp_path: Path, case: str) -> None:
    """The least limit of the process's group and those above counts; without one, what the machine has."""
    lines, files, granted = GROUPS[case]
    found = find_memory({}, *groups(tmp_path, lines, files))
    assert found == (find_memory({}, "", "") if granted is None else (granted * MIB, "cgroup"))


@pytest.mark.parametrize(("size", "granted"), [("512", 512 * MIB), ("128", 128 * MIB), ("", None), ("much", None)])
def test_lambda_says_what_was_granted(size: str, granted: int | None) -> None:
    """The function's memory is an environment variable, in MiB."""
    found = find_memory({"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": size}, "", "")
    assert found == (find_memory({}, "", "") if granted is None else (granted, "Lambda"))


def _limited(kind: str, size: int) -> Callable[[], None]:
    resource = pytest.importorskip("resource")
    return lambda: resource.setrlimit(getattr(resource, kind), (size, size))


@pytest.mark.parametrize("kind", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_a_resource_limit_says_what_was_granted(kind: str) -> None:
    """``ulimit -v`` is a grant, too; Windows has none, and is not asked."""
    code = "from stepout.artifacts.process.memory_granted import find_memory; print(*find_memory({}, '', ''))"
    limit = _limited(kind, 512 * MIB)
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, preexec_fn=limit)
    assert done.stdout.split() == [str(512 * MIB), "resource", "limit"]


def test_a_system_that_says_nothing_has_what_is_safe(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was the same everywhere before: 64 MiB a transfer and 256 a process."""
    for name in ("_physical", "_lambda"):
        monkeypatch.setattr(container_memory, name, lambda *_: None)
    monkeypatch.setattr(container_memory, "_resources", lambda: iter(()))
    found = find_memory({}, "", "")
    assert (found.size, found.source) == (None, "unknown")
    assert (transfer_share(found), process_share(found)) == (64 * MIB, 256 * MIB)


# Shares ---------------------------------------------------------------------------------------------------------------


@given(st.integers(1, 1 << 50), st.integers(0, 1 << 40))
def test_shares_grow_with_the_grant_between_their_bounds(size: int, more: int) -> None:
    """In whole MiB; one transfer never has more than all of them."""
    small, large = (GrantedMemory(granted, "cgroup") for granted in (size, size + more))
    assert 16 * MIB <= transfer_share(small) <= transfer_share(large) <= 256 * MIB
    assert 16 * MIB <= process_share(small) <= process_share(large) <= GIB
    assert transfer_share(small) <= process_share(small)
    assert transfer_share(small) % MIB == process_share(small) % MIB == 0
    if size >= 128 * MIB:
        assert transfer_share(small) <= size // 8
        assert process_share(small) <= size // 4


@pytest.mark.parametrize(
    ("granted", "transfer", "process", "read"), [(128, 16, 32, 32), (512, 64, 128, 128), (2048, 256, 512, 512)]
)
def test_all_defaults_follow_what_was_granted(
    monkeypatch: pytest.MonkeyPatch, granted: int, transfer: int, process: int, read: int
) -> None:
    """Settings, the budget, reads, and what many small things hold."""
    grant(monkeypatch, GrantedMemory(granted * MIB, "cgroup"))
    assert TransferSettings().memory == transfer * MIB
    assert TransferSettings(memory=20 * MIB).memory == 20 * MIB
    assert told_budget().whole.memory == process * MIB
    assert read_limit() == read * MIB
    assert usual_memory() == min(transfer, 64) * MIB


# Once a process -------------------------------------------------------------------------------------------------------


def test_the_log_says_what_was_found(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """One line of level INFO, with the source."""
    grant(monkeypatch, GrantedMemory(2 * GIB, "cgroup"))
    with caplog.at_level(logging.DEBUG, "stepout"):
        told_budget()
    (record,) = caplog.records
    assert (record.levelname, record.name) == ("INFO", "stepout.artifacts")
    assert record.getMessage() == (
        "memory: 2,048 MiB (cgroup); one transfer may use 256 MiB, all of the process 512 MiB, 64 connections"
    )


def test_the_log_says_it_where_nothing_is_known(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Then the numbers are those that always were."""
    grant(monkeypatch, GrantedMemory(None, "unknown"))
    with caplog.at_level(logging.INFO, "stepout"):
        told_budget()
    assert caplog.messages == [
        "memory: not known (unknown); one transfer may use 64 MiB, all of the process 256 MiB, 64 connections"
    ]


_TOLD_ONCE = """
import logging, os
logging.basicConfig(level="INFO", format="%(message)s")
from stepout.artifacts import ArtifactManager, MemoryStore
manager = ArtifactManager(MemoryStore("results"))
for number in range(3):
    manager.put_bytes(f"n{number}", bytes(2 << 20))
    with manager.open(f"w{number}") as writer:
        writer.write(bytes(9 << 20))
"""


def test_a_process_is_told_once() -> None:
    """However much it transfers; and not as a warning."""
    environ = {**os.environ, "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128"}
    done = subprocess.run([sys.executable, "-c", _TOLD_ONCE], check=True, capture_output=True, text=True, env=environ)
    told = [line for line in done.stderr.splitlines() if line.startswith("memory: ")]
    assert told == ["memory: 128 MiB (Lambda); one transfer may use 16 MiB, all of the process 32 MiB, 64 connections"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_asks_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child may have been moved into a group of its own; the parent keeps what it found."""
    monkeypatch.setattr(container_memory, "_GRANTED", PerProcess(lambda: find_memory(os.environ, "", "")))
    before = granted_memory()
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
    assert granted_memory() is before
    assert exit_code(begin_child(lambda: 0 if granted_memory() == (128 * MIB, "Lambda") else 1)) == 0


# What is taken --------------------------------------------------------------------------------------------------------

_PUT_BY_THREADS = """
import sys, threading
from pathlib import Path
from stepout.artifacts import ArtifactManager, MemoryStore
from stepout.artifacts.store_writes import PartReceipt, Written

count, file = int(sys.argv[1]), Path(sys.argv[2])

def kibibytes(name):
    return int(Path("/proc/self/status").read_text().split(name + ":")[1].split()[0])

class Sink(MemoryStore):
    # Keeps nothing, and answers the first parts only once all uploads are there. A part may be asked for twice.
    here, changed = set(), threading.Condition()

    def put_part(self, key, upload, number, body, *, checksum):
        if number == 1:
            with self.changed:
                self.here.add(key)
                self.changed.notify_all()
                self.changed.wait_for(lambda: len(self.here) == count, 600)
        return PartReceipt(number=number, etag="e", size=sum(map(len, body)), checksum=checksum)

    def complete_upload(self, *names, **options):
        return Written(etag="e", version_id=None)

manager = ArtifactManager(Sink("sink"))
manager.put_bytes("first", bytes(2 << 20))
before = kibibytes("VmRSS")
threads = [threading.Thread(target=manager.put_file, args=(f"n{number}", file)) for number in range(count)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert len(manager.pointers) == count + 1
print(kibibytes("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads its memory from /proc")
@pytest.mark.parametrize("granted", [512, pytest.param(2048, marks=pytest.mark.slow)])
def test_sixteen_threads_that_put_share_what_the_container_grants(tmp_path: Path, granted: int) -> None:
    """Resident memory: two get all that they ask for, fourteen the least; alone, one takes no more than its share."""
    file = tmp_path / "file"
    file.touch()
    os.truncate(file, 300 * MIB if granted > 512 else 150 * MIB)  # more than one has
    container = GrantedMemory(granted * MIB, "Lambda")
    whole, one = process_share(container), transfer_share(container)

    def taken(threads: int) -> int:
        done = subprocess.run(
            [sys.executable, "-c", _PUT_BY_THREADS, str(threads), str(file)],
            check=True, capture_output=True, text=True,
            env={**os.environ, "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(granted)},
        )  # fmt: skip
        return int(done.stdout) << 10

    besides = 32 * MIB  # stacks, and what the allocator keeps for each thread
    assert taken(1) <= one + besides
    assert taken(16) <= whole + 14 * LEAST_MEMORY + besides <= 16 * one / 2


@pytest.mark.skipif(sys.platform != "linux", reason="reads its memory from /proc")
def test_a_transfer_fits_under_a_resource_limit(tmp_path: Path) -> None:
    """Of 1 GiB of addresses, which its threads take as well: the transfer has an eighth, and comes to its end."""
    file = tmp_path / "file"
    file.touch()
    os.truncate(file, 300 * MIB)
    limit = _limited("RLIMIT_AS", GIB)
    command = [sys.executable, "-c", _PUT_BY_THREADS, "1", str(file)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, preexec_fn=limit)
    assert int(done.stdout) << 10 <= 160 * MIB

"""The network that benchmarks put before a server does what its model says; no time is asserted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
needs_forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="the proxy serves from forked processes")


def _script(text: str, *arguments: str) -> Any:
    """What a script prints, run where ``benchmarks`` can be imported."""
    command = [sys.executable, "-c", text, *arguments]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_bytes_arrive_when_the_model_says() -> None:
    """By a clock that stands still: handshake, half a round trip after each turn, the rate, a hold, and a credit."""
    found = _script("""
import json
from benchmarks.network.model import Conditions, LaneClock
up = LaneClock(Conditions(latency=0.1, rate=1000), opened=10)
first = up.turn(10)
body = [up.carry(first, 100), up.carry(first, 400)]
later = up.turn(20)
held = up.hold(later, 2)
after = up.carry(held, 100)
late = up.carry(after + 5, 100) - (after + 5)
free = LaneClock(Conditions(), opened=0)
print(json.dumps([first, *body, later, held, after, late, free.turn(3), free.carry(3, 10**9)]))
""")
    assert found == pytest.approx([10.15, 10.25, 10.65, 20.05, 22.05, 22.15, 0.08, 3, 3])


def test_slices_do_not_change_when_the_last_byte_arrives() -> None:
    """However a body is cut, and however late within the credit its slices are taken."""
    assert _script("""
import json, random
from benchmarks.network.model import Conditions, LaneClock
ends = set()
for seed in range(200):
    dice, pace, left = random.Random(seed), LaneClock(Conditions(latency=0.03, rate=1e6), opened=0), 10**6
    now = pace.turn(0)
    while left:
        count = min(left, dice.randint(1, 10**5))
        now, left = pace.carry(now + dice.random() * 0.02, count), left - count
    ends.add(round(now, 9))
print(json.dumps(list(ends)))
""") == [1.045]


def test_faults_repeat_and_keep_their_share() -> None:
    """Seed, connection and request decide; half of the stalls are before the answer, the others in the body."""
    found = _script("""
import json
from benchmarks.network.model import Conditions, WITHIN, mishap_of
def all_of(seed, head=b"PUT /a"):
    conditions = Conditions(stalls=0.2, cuts=0.1)
    return [mishap_of(conditions, seed, c, r, head) for c in range(100) for r in range(100)]
one, again, other = all_of(1), all_of(1), all_of(2)
met = [fault for fault in one if fault]
print(json.dumps({
    "same": one == again, "differs": one != other,
    "kinds": {kind: sum(fault.kind == kind for fault in met) for kind in ("stall", "cut")},
    "places": {place: sum(fault.place == place for fault in met) for place in ("answer", "up", "down")},
    "down": {fault.place for fault in all_of(1, b"GET /a") if fault} == {"answer", "down"},
    "within": max(fault.after for fault in met) < WITHIN,
}))
""")
    assert all(found[name] for name in ("same", "differs", "down", "within"))
    assert found["kinds"]["stall"] == pytest.approx(2000, rel=0.1)
    assert found["kinds"]["cut"] == pytest.approx(1000, rel=0.1)
    assert found["places"]["answer"] == pytest.approx(1000, rel=0.1)
    assert found["places"]["down"] == 0


_EXCHANGE = """
import contextlib, http.client, json, sys
from pathlib import Path
from benchmarks import servers
from benchmarks.network.model import Conditions
pattern = Path(sys.argv[1])
body = bytes(range(256)) * 8192
pattern.write_bytes(body)
def exchange(requests=3, **conditions):
    with servers.sink(pattern) as sink, servers.network(sink, Conditions(**conditions)) as network:
        client = http.client.HTTPConnection(network.endpoint.rpartition("/")[2], timeout=30)
        same = failed = 0
        for number in range(requests):
            try:
                client.request("PUT" if number % 2 else "GET", f"/bench/{len(body)}", body if number % 2 else None)
                same += client.getresponse().read() in (body, b"")
            except ConnectionError:
                failed += 1
                client.close()
        seen = network.counters()
        client.close()
        return {"same": same, "failed": failed, **{n: v for n, v in seen.items() if n.startswith(("network", "put"))}}
"""


@needs_forks
def test_bytes_pass_unchanged_and_are_counted(tmp_path: Path) -> None:
    """Through a pipe and through memory, paced or not; each request is known by its first bytes."""
    text = _EXCHANGE + "print(json.dumps([exchange(), exchange(latency=0.001, rate=1e9)]))"
    elsewhere = "import os\ndel os.splice\n"
    for found in _script(text, str(tmp_path / "pattern")), _script(elsewhere + text, str(tmp_path / "pattern")):
        for each in found:
            assert each["same"] == 3
            assert each["network_requests"] == 3
            assert each["network_opened"] == 1
            assert 0 <= each["network_bytes_up"] - (2 << 20) < 1024
            assert 0 <= each["network_bytes_down"] - (4 << 20) < 2048


@needs_forks
def test_requests_stall_and_connections_are_cut(tmp_path: Path) -> None:
    """All of them, if the share is 1: a stall only delays, a cut is a reset that the server's answer never follows."""
    text = _EXCHANGE + "print(json.dumps([exchange(stalls=1, stall_seconds=0.01), exchange(cuts=1)]))"
    stalled, cut = _script(text, str(tmp_path / "pattern"))
    assert (stalled["same"], stalled["network_stalled"], stalled["network_cut"]) == (3, 3, 0)
    assert (cut["same"], cut["failed"], cut["network_cut"], cut["put"]) == (0, 3, 3, 0)


@needs_forks
def test_one_connection_too_many_is_closed(tmp_path: Path) -> None:
    """As soon as it is made; those that are open go on."""
    found = _script(
        _EXCHANGE
        + """
import socket
with servers.sink(pattern) as sink, servers.network(sink, Conditions(connections=2)) as network:
    host, port = network.endpoint.rpartition("/")[2].split(":")
    made = [socket.create_connection((host, int(port)), 30) for _ in range(3)]
    with contextlib.suppress(ConnectionError):
        assert made[2].recv(1) == b""
    made[0].sendall(b"HEAD /bench/1 HTTP/1.1\\r\\n\\r\\n")
    print(json.dumps([made[0].recv(8).decode(), network.counters()["network_refused"]]))
""",
        str(tmp_path / "pattern"),
    )
    assert found == ["HTTP/1.1", 1]


@needs_forks
def test_clients_that_vanish_leave_the_others_alone(tmp_path: Path) -> None:
    """Some close, some reset, in the middle of answers; all others are served, by every process."""
    found = _script(
        _EXCHANGE
        + """
import socket, struct
with servers.sink(pattern) as sink, servers.network(sink, Conditions(rate=1e9)) as network:
    host, port = network.endpoint.rpartition("/")[2].split(":")
    for number in range(200):
        vanishing = socket.create_connection((host, int(port)), 30)
        vanishing.sendall(b"GET /bench/2097152 HTTP/1.1\\r\\n\\r\\n")
        if number % 2:
            vanishing.recv(1 << 16)
        if number % 3:
            vanishing.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        vanishing.close()
    same = 0
    for _ in range(8):
        client = http.client.HTTPConnection(host, int(port), timeout=30)
        client.request("GET", f"/bench/{len(body)}")
        same += client.getresponse().read() == body
        client.close()
    print(json.dumps(same))
""",
        str(tmp_path / "pattern"),
    )
    assert found == 8


@needs_forks
def test_a_shared_line_is_there_within_its_block_alone() -> None:
    """A server at its far end is reached while it lasts; where namespaces are not allowed, that is said."""
    found = _script("""
import json, subprocess, sys
from benchmarks.network.namespaces import shared_line
def listed():
    return subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout.split()
try:
    with shared_line(1e9) as line:
        script = "import socket; s = socket.create_server((%r, 0)); print(s.getsockname()[0], flush=True)"
        command = [*line.within, sys.executable, "-c", script % line.address]
        inside = subprocess.run(command, capture_output=True, text=True).stdout.strip()
        print(json.dumps([inside == line.address, line.within[-1] in listed()]))
        name = line.within[-1]
    assert name not in listed()
except (PermissionError, FileNotFoundError) as error:
    print(json.dumps(f"not allowed: {error}"))
""")
    if isinstance(found, str):
        pytest.skip(found)
    assert found == [True, True]


@needs_forks
def test_both_ends_may_speak_at_once() -> None:
    """As over TLS: what waits for its turn is taken, and neither makes the other wait for ever."""
    found = _script("""
import json, socket, threading
from benchmarks import servers
from benchmarks.network.model import Conditions
listener = socket.create_server(("127.0.0.1", 0))
def received(sock, count):
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        assert more
        data += more
    return data
def serve():
    sock, _ = listener.accept()
    for _ in range(20):
        sock.sendall(b"s" * 1000)
        received(sock, 1000)
    sock.close()
threading.Thread(target=serve, daemon=True).start()
server = servers.Server("both", f"http://127.0.0.1:{listener.getsockname()[1]}")
with servers.network(server, Conditions(latency=0.01, rate=1e6)) as before:
    port = int(before.endpoint.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=50) as sock:
        counts = []
        for _ in range(20):
            sock.sendall(b"c" * 1000)
            counts.append(len(received(sock, 1000)))
print(json.dumps(counts))
""")
    assert found == [1000] * 20

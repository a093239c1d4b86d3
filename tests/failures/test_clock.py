"""A container whose clock is wrong: signatures carry the time, and servers refuse those of another time."""

from __future__ import annotations

import shutil
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from support import sfn_strict as strict
from support.containers import objects

if TYPE_CHECKING:
    from pathlib import Path

    from support.sfn_strict import StrictStepFunctions

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None, reason="a process gets another clock by LD_PRELOAD"
)

WORK = """
import stepout
with stepout.open_task() as task:
    task.artifacts.put_bytes("mask", b"m" * 1000)
"""
CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
static long skew(void) { const char *text = getenv("CLOCK_SKEW"); return text ? atol(text) : 0; }
int clock_gettime(clockid_t id, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *)) dlsym(RTLD_NEXT, "clock_gettime");
    int answer = real(id, now);
    if (answer == 0 && id == CLOCK_REALTIME) now->tv_sec += skew();
    return answer;
}
time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
int gettimeofday(struct timeval *now, void *zone) {
    struct timespec precise;
    (void) zone;
    clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}
"""
MINUTES = 60


class _Dated(strict._StatesHandler):
    """Refuses requests signed more than five minutes from now, as AWS does (S3 allows fifteen)."""

    def do_POST(self) -> None:  # noqa: N802 - as http.server has it
        signed = datetime.strptime(self.headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        if abs((datetime.now(UTC) - signed).total_seconds()) <= 5 * MINUTES:
            super().do_POST()
            return
        self.rfile.read(int(self.headers["Content-Length"]))
        content = b'{"__type": "InvalidSignatureException", "message": "Signature expired"}'
        self.send_response(400)
        self.send_header("Content-Type", "application/x-amz-json-1.0")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture(scope="module")
def another_clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that moves the clock of the process that loads it by CLOCK_SKEW seconds."""
    folder = tmp_path_factory.mktemp("clock")
    (folder / "clock.c").write_text(CLOCK)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", "clock.so", "clock.c", "-ldl"], cwd=folder, check=True)
    return folder / "clock.so"


def _skewed(sfn: StrictStepFunctions, containers: Any, library: Path, minutes: int, token: str) -> tuple[int, str]:
    sfn._server.RequestHandlerClass = _Dated
    script = f"import datetime\nprint('CLOCK', datetime.datetime.now(datetime.timezone.utc).timestamp())\n{WORK}"
    clock = {"LD_PRELOAD": str(library), "CLOCK_SKEW": str(minutes * MINUTES)}
    ended, printed = containers(script, token, **clock).finish()
    told = float(printed.partition("CLOCK ")[2].split()[0]) - datetime.now(UTC).timestamp()
    assert abs(told - minutes * MINUTES) < 2 * MINUTES, "the process did not get another clock"
    return ended, printed


@pytest.mark.parametrize("minutes", [-120, 120])
def test_clock_skew(  # noqa: PLR0913, PLR0917 - fixtures, and which way the clock is off
    minutes: int,
    sfn_strict: StrictStepFunctions,
    containers: Any,
    another_clock: Path,
    seaweed_client: Any,
    bucket: str,
) -> None:
    """Two hours off: S3 takes what is signed by its own time, the state hears nothing, and the log says why."""
    token = sfn_strict.issue()
    ended, printed = _skewed(sfn_strict, containers, another_clock, minutes, token)
    assert ended == 3, printed
    assert "Signature expired" in printed
    assert "clock is more than five minutes off" in printed
    assert "stepout-undelivered.json" in printed
    assert sfn_strict.calls == []
    assert any(key.endswith("/stepout-undelivered.json") for key in objects(seaweed_client, bucket))


def test_a_small_clock_skew(sfn_strict: StrictStepFunctions, containers: Any, another_clock: Path) -> None:
    """Within what the services allow nothing happens."""
    token = sfn_strict.issue()
    ended, printed = _skewed(sfn_strict, containers, another_clock, 3, token)
    assert ended == 0, printed
    assert list(sfn_strict.success(token)["artifacts"]) == ["mask"]

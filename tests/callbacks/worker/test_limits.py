"""What a worker cannot do: messages that ask for too much, machines that are full, queues that wait in line."""

from __future__ import annotations

import errno
import json
import re
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from support.ministack import wait_until
from support.workers import SHELL, Place, job, running

if TYPE_CHECKING:
    from pathlib import Path


def test_a_machine_that_is_full_keeps_its_messages(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """No process can be started just now: that is not the task's fault."""
    place.send("exit 0")

    def full(*_: Any, **__: Any) -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr("stepout.callbacks.process.process_group.subprocess.Popen", full)
    tally = place.worker(SHELL, limit=1).run()
    assert (tally.kept, place.left(), place.strict.calls) == (1, (0, 1), [])


@pytest.mark.parametrize("what", ["stepout-child", "stepout-output", "task"])
def test_a_machine_without_another_thread_goes_on_later(
    what: str, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task's message is kept, its process if any is ended, nothing more is taken for five seconds; then it is."""
    place.send("exit 0")
    failed: list[float] = []
    received: list[float] = []
    start = threading.Thread.start
    names = {"task": r"stepout-[0-9a-f]{8}"}

    def now() -> float:
        return time.monotonic() * 50

    def full(thread: threading.Thread) -> None:
        if re.fullmatch(names.get(what, what), thread.name) and not failed:
            failed.append(now())
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", full)
    client = place.aws.client("sqs")
    client.meta.events.register("before-send.sqs.ReceiveMessage", lambda **_: received.append(now()))
    with running(place.worker(SHELL, client=client, clock=now, idle_exit=None, visibility=600, label=True)) as tallies:
        wait_until(lambda: failed, what="a full machine")
        second = place.send("exit 0")
        wait_until(lambda: place.strict.accepted(second), what="the next task's report")
    assert (tallies[0].kept, tallies[0].failed_here, place.left()) == (1, 1, (0, 1))
    assert min(each for each in received if each > failed[0]) - failed[0] >= 5


@pytest.mark.skipif(sys.platform != "linux", reason="its limits")
def test_an_environment_that_is_too_large_fails_the_task(place: Place) -> None:
    """Each variable is small enough, all of them together are not: the state hears why, and what to do."""
    environ = {**place.environ, **{f"FILL_{number}": "x" * 130_000 for number in range(50)}}
    token = place.send("x" * 100_000)
    place.worker(SHELL, environ=environ).run()
    error, cause = place.strict.failure(token)
    assert error == "Stepout.Configuration"
    assert "pass a pointer as its input" in cause["message"]
    assert place.left() == (0, 0)


def test_what_a_message_may_not_say_fails_its_task(place: Place, tmp_path: Path) -> None:
    """Another target than pull mode's, an integer that readers round: the state hears of it, and nothing is run."""
    evil = place.send("touch it", STEPOUT_OUTPUT=f"file://{tmp_path / 'evil'} stdout:")
    large, zero = place.send("exit 0", rows=12345678901234567890), place.send(STEPOUT_STATE="Ma\0sk")
    tally = place.worker(job(tmp_path, "pass")).run()
    told = {token: place.strict.failure(token) for token in (evil, large, zero)}
    assert {error for error, _ in told.values()} == {"Stepout.InvalidDocument"}
    for token, why in ((evil, "STEPOUT_OUTPUT: must be one"), (large, "2**53"), (zero, "a zero character")):
        assert why in told[token][1]["message"]
    assert (tally.failed_here, place.left()) == (3, (0, 0))
    assert not (tmp_path / "evil").exists()


def test_a_fifo_queue_s_poison_holds_its_group_until_it_is_a_dead_letter(place: Place) -> None:
    """Tasks of other groups are done meanwhile, those behind it in order afterwards."""
    fifo = {"FifoQueue": "true", "ContentBasedDeduplication": "true"}
    dead = place.queue(".fifo", **fifo)
    policy = json.dumps({"deadLetterTargetArn": place.arn(dead), "maxReceiveCount": 2})
    place.url = place.queue(".fifo", RedrivePolicy=policy, **fifo)
    behind, other = place.strict.issue(), place.strict.issue()
    for group, text in (
        ("one", "no json"),
        ("one", json.dumps({"taskToken": behind})),
        ("two", f'{{"taskToken": "{other}"}}'),
    ):
        place.client.send_message(QueueUrl=place.url, MessageBody=text, MessageGroupId=group)
    with running(place.worker(["true"], idle_exit=None)) as tallies:
        wait_until(lambda: place.strict.accepted(behind) and place.left() == (0, 0), what="an empty queue")
    assert place.left(dead) == (1, 0)
    assert [len(place.strict.accepted(token)) for token in (behind, other)] == [1, 1]
    assert tallies[0].failed_here == 2


def test_a_command_that_cannot_be_started_fails_its_task(place: Place, tmp_path: Path) -> None:
    """The state hears why at once."""
    program = tmp_path / "program"
    program.write_text("not a program")
    program.chmod(0o755)
    token = place.send()
    place.worker([str(program)]).run()
    error, cause = place.strict.failure(token)
    assert error == "Stepout.Configuration"
    assert "could not start the command" in cause["message"]
    assert place.left() == (0, 0)

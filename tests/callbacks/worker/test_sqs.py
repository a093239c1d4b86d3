"""A worker on a real queue with real child processes; the reports' rules are enforced by the strict Step Functions."""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from support.ministack import unique, wait_until
from support.workers import SHELL, Place, job, running

from stepout.callbacks.worker.sqs import CEILING, SqsWorker
from stepout.schemas.errors import ConfigurationError, TaskError

if TYPE_CHECKING:
    from pathlib import Path


def test_what_a_process_reported_stands_and_what_it_did_not_is_reported(place: Place, tmp_path: Path) -> None:
    """Success and failure are the job's; silence, a death and a lost outcome are reported for it; all are deleted."""
    body = """
if task.input == "fail":
    raise stepout.PermanentError("no such scene")
task.result["input"] = task.input
if task.input == "die":
    task.__exit__(None, None, None)
    os._exit(9)
"""
    done, failed, died = place.send("work"), place.send("fail"), place.send("die")
    tally = place.worker(job(tmp_path, body), limit=3).run()
    assert place.strict.success(done)["result"] == {"input": "work"}
    assert place.strict.failure(failed)[0] == "Stepout.Permanent"
    assert place.strict.success(died)["result"] == {"input": "die"}
    silent, killed, lost, broken = (place.send(work) for work in ("exit 0", "kill -9 $$", "exit 3", "exit 7"))
    again = place.worker(SHELL).run()
    told = {token: place.strict.failure(token) for token in (silent, killed, lost, broken)}
    assert told[silent][0] == "Stepout.NothingReported"
    assert "stepout run" in told[silent][1]["message"]
    assert told[killed][0] == "Stepout.ContainerDied"
    assert (told[killed][1]["exitCode"], told[killed][1]["retryable"]) == (137, True)
    assert told[lost][0] == "Stepout.OutcomeUndelivered"
    assert (told[broken][0], told[broken][1]["exitCode"]) == ("Stepout.ContainerDied", 7)
    assert told[broken][1]["run"] == {"state": "Mask", "attempt": 0}
    assert (tally.reported, again.failed_here) == (3, 4)
    assert place.left() == (0, 0)


def test_messages_that_nobody_waits_for_are_deleted(place: Place, tmp_path: Path) -> None:
    """A duplicate that comes late meets a closed token: the job's first heartbeat says so, no work is done."""
    token = place.strict.issue()
    place.strict.close(token)
    place.send(token=token)
    tally = place.worker(job(tmp_path, '(folder / "worked").touch()')).run()
    assert (tally.reported, place.left(), place.strict.accepted(token)) == (1, (0, 0), [])
    assert not (tmp_path / "worked").exists()


def test_a_duplicate_does_not_start_beside_the_first(place: Place, tmp_path: Path) -> None:
    """The same token twice in the queue is one process here, and both messages are deleted after its report."""
    token = place.send()
    place.send(token=token)
    other = place.send("other")
    body = """
(folder / f"begun-{os.getpid()}").touch()
while not (folder / "go").exists():
    time.sleep(0.02)
"""
    worker = place.worker(job(tmp_path, body), concurrency=3, idle_exit=None)
    with running(worker) as tallies:
        wait_until(lambda: len(list(tmp_path.glob("begun-*"))) == 2 and place.left() == (0, 3), what="both jobs")
        (tmp_path / "go").touch()
        wait_until(lambda: place.left() == (0, 0), what="an empty queue")
    assert len(list(tmp_path.glob("begun-*"))) == 2
    assert tallies[0].reported == 2
    assert place.strict.success(token)
    assert place.strict.success(other)


def test_three_tasks_run_at_a_time_each_in_a_folder_of_its_own(
    place: Place, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each waits for the other two; what they print is labelled, and a token in it is not shown."""
    body = """
(folder / f"here-{task.input}").write_text(os.getcwd())
while len(list(folder.glob("here-*"))) < 3:
    time.sleep(0.02)
print("input", task.input, "env", len(os.environ.get("STEPOUT_TASK_TOKEN", "")))
"""
    tokens = [place.send(number) for number in range(3)]
    place.worker(job(tmp_path, body), concurrency=3, fresh_folder=True, limit=3).run()
    assert all(place.strict.success(token) for token in tokens)
    folders = {(tmp_path / f"here-{number}").read_text() for number in range(3)}
    assert len(folders) == 3
    assert not any(pathlike.startswith(str(tmp_path)) for pathlike in folders)
    printed = capfd.readouterr().out.splitlines()
    assert sorted(line.split("] ")[1] for line in printed) == [f"input {number} env 0" for number in range(3)]
    place.send("echo $STEPOUT_TASK_TOKEN")
    place.worker(SHELL, label=True).run()
    assert capfd.readouterr().out.rstrip().endswith("] [redacted]")


def calls_of(client: Any, action: str) -> list[dict[str, Any]]:
    """The parameters of every call of an action from now on."""
    calls: list[dict[str, Any]] = []

    def note(params: dict[str, Any], **_: Any) -> None:
        calls.append(dict(params))

    client.meta.events.register(f"provide-client-params.sqs.{action}", note)
    return calls


def test_a_long_task_s_message_stays_invisible_and_is_taken_over_after_twelve_hours(
    place: Place, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is extended in step with the heartbeat; what SQS delivers again after 12 hours begins nothing anew."""
    passed = threading.Event()
    now = lambda: time.monotonic() + (CEILING if passed.is_set() else 0)  # noqa: E731
    begun = tmp_path / "begun"
    work = f"echo >> {begun}; while [ ! -e {tmp_path / 'go'} ]; do sleep 0.05; done"
    token = place.send(work, STEPOUT_HEARTBEAT_SECONDS=1)
    client = place.aws.client("sqs")
    extended = calls_of(client, "ChangeMessageVisibility")
    worker = place.worker(SHELL, client=client, visibility=60, concurrency=2, clock=now, idle_exit=None)
    with caplog.at_level(logging.INFO, "stepout"), running(worker) as tallies:
        wait_until(lambda: len(extended) > 1, what="two extensions")
        passed.set()
        wait_until(lambda: "12 hours after its receipt" in caplog.text, what="the ceiling")
        assert place.left() == (0, 1)
        assert {call["VisibilityTimeout"] for call in extended} == {60}
        (first,) = {call["ReceiptHandle"] for call in extended}
        place.client.change_message_visibility(QueueUrl=place.url, ReceiptHandle=first, VisibilityTimeout=0)  # as SQS
        wait_until(lambda: "delivered again while it runs" in caplog.text, what="the second delivery")
        wait_until(
            lambda: {call["ReceiptHandle"] for call in extended} - {first}, what="an extension of the new receipt"
        )
        (tmp_path / "go").touch()
        wait_until(lambda: place.left() == (0, 0), what="an empty queue")
    assert begun.read_text() == "\n"
    assert "could not be kept" not in caplog.text
    assert tallies[0].failed_here == 1
    assert len(place.strict.accepted(token)) == 1


def test_what_cannot_be_a_task_ends_in_the_dead_letter_queue(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """It is never deleted, and does not keep others from being done; what has a token is told to whoever waits."""
    dead = place.with_dead_letters(2)
    damaged = json.dumps({"taskToken": "two words and a secret", "rows": 3})
    for text in ("no json", '{"rows": 3}', damaged):
        place.send_text(text)
    invalid, good = place.send(STEPOUT_ATTEMPT="soon"), place.send("exit 0")
    with running(place.worker(SHELL, idle_exit=None)):
        wait_until(lambda: place.left(dead)[0] == 3 and place.left() == (0, 0), what="three dead letters")
    assert place.strict.failure(invalid)[0] == "Stepout.InvalidDocument"
    assert "STEPOUT_ATTEMPT" in place.strict.failure(invalid)[1]["message"]
    assert place.strict.accepted(good)
    letters = place.client.receive_message(QueueUrl=dead, MaxNumberOfMessages=10)["Messages"]
    assert {letter["Body"] for letter in letters} <= {"no json", '{"rows": 3}', damaged}
    assert "is not deleted" in caplog.text
    assert "a secret" not in caplog.text
    assert "RedrivePolicy" not in caplog.text


def test_a_token_that_step_functions_does_not_know_is_poison(place: Place) -> None:
    """Nobody can be told, so it goes where the operators look."""
    dead = place.with_dead_letters(1)
    place.send("exit 7", token="AAAAnobody" * 10)
    with running(place.worker(SHELL, idle_exit=None)):
        wait_until(lambda: place.left(dead)[0] == 1, what="a dead letter")


def test_without_a_dead_letter_queue_poison_circles_slowly(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """The worker warns when it starts, and leaves such a message invisible for the visibility timeout."""
    place.send_text("no json")
    place.worker(SHELL, visibility=60).run()
    assert "has no RedrivePolicy" in caplog.text
    assert place.left() == (0, 1)


def test_a_failure_that_cannot_be_delivered_keeps_its_message(place: Place) -> None:
    """Step Functions is away when a process has died: the message comes back, and is settled then."""
    token = place.send("kill -9 $$")
    place.strict.fault("SendTaskFailure", *["503"] * 40)
    with running(place.worker(SHELL, visibility=3, idle_exit=None)) as tallies:
        wait_until(lambda: place.strict.count("SendTaskFailure") > 1, what="reports in vain")
        wait_until(lambda: place.left() == (1, 0) or place.strict.count("SendTaskFailure") > 6, what="its return")
        place.strict._faults.clear()
        wait_until(lambda: place.left() == (0, 0), what="an empty queue")
    assert place.strict.failure(token)[0] == "Stepout.ContainerDied"
    assert tallies[0].kept >= 1
    assert tallies[0].failed_here == 1


def test_with_a_relay_the_worker_reports_through_it(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A direct one would overtake what is still in the relay's queue; exit codes that mean "reported" are trusted."""
    relay = place.queue()
    for name, value in place.aws.environ.items():
        monkeypatch.setenv(name, value)
    environ = {**place.environ, "STEPOUT_TARGETS": f"sqs:{relay}"}
    trusted, killed = place.send("exit 0"), place.send("kill -9 $$")
    tally = place.worker(SHELL, environ=environ).run()
    (message,) = place.client.receive_message(QueueUrl=relay, MaxNumberOfMessages=10)["Messages"]
    assert killed in message["Body"]
    assert "Stepout.ContainerDied" in message["Body"]
    assert place.strict.accepted(trusted) == place.strict.accepted(killed) == []
    assert (tally.reported, tally.failed_here, place.left()) == (1, 1, (0, 0))


def test_a_worker_outlives_an_sqs_that_is_away(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """It asks again, with growing pauses."""
    token, away = place.send("exit 0"), threading.Event()
    client = place.aws.client("sqs")

    def unreachable(**_: Any) -> None:
        if not away.is_set():
            away.set()
            raise ConnectionError("no route to the queue")

    client.meta.events.register("before-send.sqs.ReceiveMessage", unreachable)
    place.worker(SHELL, client=client, limit=1, idle_exit=None).run()
    assert place.strict.accepted(token)
    assert "cannot be asked for tasks; again in" in caplog.text


def denied(client: Any, action: str) -> None:
    """From now on, the client's calls of an action are refused."""

    def refuse(**_: Any) -> None:
        answer: Any = {"Error": {"Code": "AccessDenied", "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
        raise ClientError(answer, action)

    client.meta.events.register(f"before-call.sqs.{action}", refuse)


def test_permissions_that_are_missing(place: Place, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without the right to receive there is nothing to do; without the others, tasks are done, and it is told."""
    client = place.aws.client("sqs")
    denied(client, "GetQueueAttributes")
    denied(client, "DeleteMessage")
    denied(client, "ChangeMessageVisibility")
    token = place.send(f"touch {tmp_path / 'begun'}; while [ ! -e {tmp_path / 'go'} ]; do sleep 0.05; done")
    with running(place.worker(SHELL, client=client, visibility=3)) as tallies:
        wait_until(lambda: "could not be kept from other workers" in caplog.text, what="a warning")
        (tmp_path / "go").touch()
        wait_until(lambda: tallies, what="the worker's end")
    assert place.strict.accepted(token)
    assert "was not deleted and comes back" in caplog.text
    wait_until(lambda: place.left() == (1, 0), what="the message's return")
    place.worker(SHELL, limit=1).run()  # its task is closed by now
    assert place.left() == (0, 0)
    assert len(place.strict.accepted(token)) == 1
    for reader in (client, place.aws.client("sqs")):  # Of the second, the queue's attributes may be read.
        denied(reader, "ReceiveMessage")
        with pytest.raises(ConfigurationError, match="sqs:ReceiveMessage"):
            place.worker(SHELL, client=reader).run()


def test_what_arrives_after_the_stop_is_given_back(place: Place, tmp_path: Path) -> None:
    """The long poll under way may bring a message still: it is visible to other workers at once."""
    token, client = place.send(f"touch {tmp_path / 'begun'}"), place.aws.client("sqs")
    worker = place.worker(SHELL, client=client, idle_exit=None)
    client.meta.events.register("after-call.sqs.ReceiveMessage", lambda **_: worker.stop())
    assert worker.run().returned == 1
    assert (place.left(), place.strict.accepted(token)) == ((1, 0), [])
    assert not (tmp_path / "begun").exists()


def test_mistakes_are_told_before_anything_is_taken(place: Place) -> None:
    """A queue that is not there, no program, and figures that make no sense."""
    place.send("exit 0")
    with pytest.raises(ConfigurationError, match="does not exist"):
        SqsWorker(f"{place.url}-not", SHELL, client=place.client).run()
    for options in (
        {"concurrency": 0},
        {"limit": 0},
        {"visibility": 2},
        {"poll": 21},
        {"stop_timeout": -1},
        {"idle_exit": -1},
        {"idle_exit": math.nan},
    ):
        with pytest.raises(ConfigurationError):
            place.worker(SHELL, **options)
    with pytest.raises(ConfigurationError):
        place.worker(SHELL, environ={**place.environ, "STEPOUT_STOP_TIMEOUT": "soon"}, stop_timeout=None)
    for command in ([], "sh -c", [unique("no-such-program")]):
        with pytest.raises(ConfigurationError):
            place.worker(command)
    with pytest.raises(ConfigurationError):
        SqsWorker("jobs", SHELL)
    worker = place.worker(SHELL)
    assert worker.run().failed_here == 1
    with pytest.raises(TaskError, match="ran before"):
        worker.run()

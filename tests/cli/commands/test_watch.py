"""``stepout watch``: what it shows while a task runs, how it ends, and how it asks."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest
from support.forked import start_python
from support.ministack import unique
from support.outcomes import make_table
from support.shelf import Shelf
from support.terminal import pseudo_terminal
from support.wire import Fault, Wire

import stepout
from stepout.cli import main
from stepout.outcome_watch import OutcomeWatch, Sight
from stepout.schemas import RunIdentity
from stepout.schemas.errors import AccessDeniedError, ConfigurationError, InvalidDocumentError, StoreUnavailableError
from stepout.schemas.progress import TaskProgress

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepout.local import LocalAws

    Run = Callable[..., tuple[int, str, str]]

EXECUTION = "arn:aws:states:eu-west-1:123456789012:execution:Segment:7f3c"
URL = "s3://results/runs/Mask.json"
JOB = """
import sys
import stepout
with stepout.open_task() as task:
    task.progress(1, 4, "tile 1")
    sys.stdin.readline()
    task.progress(3, 4, "tile 3")
    if sys.argv[1] == "fail":
        raise ValueError("bad tile")
    task.result["tiles"] = 4
"""


def run_of(attempt: int = 0, execution: str = EXECUTION) -> RunIdentity:
    """The run that every test here is."""
    return RunIdentity(execution=execution, state="Mask", attempt=attempt)


# Real processes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "end", "code"), [("s3", "succeed", 0), ("dynamodb", "fail", 1)])
def test_a_watcher_sees_a_process_on_its_way_and_ends_with_it(
    kind: str, end: str, code: int, local_aws: LocalAws
) -> None:
    """Nothing, then how far it is, then its outcome, from which the watcher has its exit code."""
    name = unique("watch")
    if kind == "s3":
        local_aws.client("s3").create_bucket(Bucket=name)
    else:
        make_table(local_aws.client("dynamodb"), name, "id")
    url = f"{kind}://{name}/outputs/Mask.json"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "STEPOUT_"))}
    environ = {**inherited, **local_aws.environ}
    watcher = start_python(["-m", "stepout", "watch", url, "--every", "1", "--json"], env=environ, text=True)
    seen = [json.loads(watcher.stdout.readline())]
    told = {"STEPOUT_OUTPUT": url, "STEPOUT_EXECUTION": EXECUTION, "STEPOUT_STATE": "Mask", "STEPOUT_ATTEMPT": "2"}
    job = start_python(["-c", JOB, end], env={**environ, **told}, text=True)
    seen.append(json.loads(watcher.stdout.readline()))
    job.communicate("go on\n", timeout=300)
    out, err = watcher.communicate(timeout=300)
    seen += [json.loads(line) for line in out.splitlines()]
    assert (watcher.returncode, err) == (code, "")
    assert {each["url"] for each in seen} == {url}
    assert [each["status"] for each in seen[:2]] == ["nothing", "running"]
    assert seen[1]["progress"] == {"done": 1, "total": 4, "message": "tile 1"}
    assert seen[1]["run"]["attempt"] == 2
    assert {each["status"] for each in seen[2:-1]} <= {"running"}
    assert seen[-1]["status"] == ("succeeded" if code == 0 else "failed")
    assert ("error" in seen[-1]) is bool(code)
    if code:
        assert seen[-1]["error"] == "ValueError"
        assert json.loads(seen[-1]["cause"])["message"] == "bad tile"


# What people read ----------------------------------------------------------------------------------------------------


@pytest.fixture
def outcome(bucket: str, local_aws: LocalAws) -> tuple[str, Callable[..., None]]:
    """The URL of an outcome, and what puts objects beside it."""
    key = f"{unique('outputs')}/Mask.json"

    def put(value: Any, suffix: str = "") -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        local_aws.client("s3").put_object(Bucket=bucket, Key=key + suffix, Body=body)

    return f"s3://{bucket}/{key}", put


def _progress(done: float = 3, attempt: int = 0, execution: str = EXECUTION, message: str = "tile 3") -> dict[str, Any]:
    return TaskProgress(done=done, total=10, message=message, run=run_of(attempt, execution)).to_dict()


def _success(attempt: int = 0, execution: str = EXECUTION) -> dict[str, Any]:
    return stepout.TaskOutput(result={"secret": "payload"}, producer=run_of(attempt, execution)).to_dict()


def _failure(attempt: int = 0) -> dict[str, Any]:
    cause = {"message": "too dark", "run": run_of(attempt).to_dict()}
    return {"error": "Demo.NothingToSee", "cause": cause}


def test_that_nothing_is_there_yet_is_said(run: Run, outcome: Any) -> None:
    """With the time out, the exit code is 1, and the task may still run."""
    code, out, err = run("watch", outcome[0], "--timeout", "0")
    assert code == 1
    assert f"nothing is there yet: neither an outcome nor progress at {outcome[0]}" in out
    assert err == "stepout: no outcome within 0 s; the task may still run\n"


def test_an_outcome_that_is_there_ends_it_at_once(run: Run, outcome: Any) -> None:
    """A success is 0, and nothing of what it holds is printed; a failure is 1, with its name and its message."""
    url, put = outcome
    put(_progress(), ".progress.json")
    put(_failure(), ".0-a1b2.failure.json")
    code, out, err = run("watch", url)
    assert (code, err) == (1, "")
    assert out.rstrip().endswith("failed: Demo.NothingToSee: too dark; it had told 3 of 10 (30%): tile 3")
    put(_success(1))
    code, out, err = run("watch", url)
    assert (code, err) == (0, "")
    assert f"succeeded (attempt 1): stepout show '{url}'" in out
    assert "payload" not in out


def test_what_a_task_tells_cannot_write_to_the_terminal(run: Run, outcome: Any) -> None:
    """Whoever may write there may write anything: it is escaped."""
    url, put = outcome
    hostile = {"progress": {"done": 1, "message": "\x1b[2J\u202e<script>"}, "run": {"attempt": 1, "state": "\x1b[2J"}}
    put(hostile, ".progress.json")
    put({"error": "\x1b[2JBad", "cause": "\x9b"}, ".1-a1b2.failure.json")
    for words in ((), ("--json",)):
        code, out, _ = run("watch", url, *words)
        assert code == 1
        assert out.rstrip("\n").isprintable()
    put(b'{"progress": ', ".progress.json")
    code, out, _ = run("watch", url)
    assert code == 1
    assert "failed" in out


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX terminals")
def test_on_a_terminal_there_is_one_line_that_is_drawn_anew(
    outcome: Any, local_aws: LocalAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bar while it runs, never wider than the terminal; the outcome is a line that stays."""
    url, put = outcome
    for name, value in local_aws.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TERM", "xterm")
    put(_progress(message="x" * 200), ".progress.json")
    with pseudo_terminal(80) as terminal, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", terminal.stream)
        assert main(["watch", url, "--timeout", "0"]) == 1
        put(_success())
        assert main(["watch", url]) == 0
    bar = next(each for each in terminal.drawn if each.startswith("["))
    assert bar.startswith("[######..............] 3 of 10 (30%): xxx")
    assert len(bar) < 80
    assert f"succeeded: stepout show '{url}' lists what it wrote" in terminal.drawn


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("sfn:",), 2, "wants the URL of an outcome"),
        (("s3://no-such-bucket-anywhere/x",), 1, "the bucket does not exist"),
        (("dynamodb://no-such-table/x",), 1, "there is no DynamoDB table no-such-table"),
        (("dynamodb://table",), 1, "has no key"),
        (("dynamodb://a/x",), 2, "the URL is wrong"),
        (("s3://bucket/{index}.json",), 2, "array job"),
        (("s3://bucket/x", "--every", "0"), 2, "expected 1 to 60"),
        (("s3://bucket/x", "--timeout", "-1"), 2, "from 0 on"),
    ],
)
def test_what_cannot_be_watched_is_said_at_once(run: Run, words: tuple[str, ...], code: int, says: str) -> None:
    """It does not wait for what will never come."""
    ended, out, err = run("watch", *words)
    assert (ended, out) == (code, "")
    assert says in err


def test_a_denied_look_ends_it_and_denied_progress_alone_does_not(run: Run, outcome: Any, local_aws: LocalAws) -> None:
    """Where all is denied, what to grant is said; where only the progress is, the outcome is still waited for."""
    url, put = outcome
    with Wire(local_aws.endpoint) as wire:
        reached = ("--endpoint-url", wire.endpoint)
        wire.arm(Fault(lambda line: ".progress.json" in line, "status", 1, status=403, code="AccessDenied"))
        code, out, _ = run("watch", url, "--timeout", "0", *reached)
        assert code == 1
        assert "nothing is there yet" in out
        assert "its progress may not be read" in out
        wire.arm(Fault(lambda _line: True, "status", 100, status=403, code="AccessDenied"))
        put(_success())
        code, out, err = run("watch", url, *reached)
    assert (code, out) == (1, "")
    assert "s3:ListBucket" in err


# How it asks ---------------------------------------------------------------------------------------------------------


class Scene:
    """A bucket in memory, and a clock that only sleeping moves; ``then`` happens at the next sleeps."""

    def __init__(self) -> None:
        self.shelf, self.now, self.slept = Shelf(), 0.0, list[float]()
        self.then: list[Callable[[], object]] = []

    def put(self, value: Any, suffix: str = "") -> None:
        """Put JSON at the URL, or beside it."""
        self.shelf.put(json.dumps(value).encode(), f"Mask.json{suffix}")

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.slept.append(seconds)
        self.now += seconds
        if self.then:
            self.then.pop(0)()

    def watch(self, **given: Any) -> list[Sight]:
        """Watch to the end."""
        watch = OutcomeWatch(URL, client=self.shelf.store, clock=lambda: self.now, sleep=self.sleep, **given)
        return list(watch.sights())


@pytest.fixture
def scene() -> Scene:
    """An empty one."""
    return Scene()


def test_it_asks_less_often_while_nothing_changes(scene: Scene) -> None:
    """Up to four times as seldom; something new brings the looks together again."""
    scene.then += [lambda: None] * 5 + [lambda: scene.put(_progress(1), ".progress.json")]
    sights = scene.watch(timeout=200)
    assert {each.status for each in sights} == {"nothing", "running"}
    assert scene.slept[:9] == [5.0, 7.5, 11.25, 16.875, 20.0, 20.0, 5.0, 7.5, 11.25]
    assert sum(scene.slept) == 200
    assert max(scene.slept) == 20


def test_a_service_that_cannot_be_reached_is_asked_much_less_often(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was seen before is kept; the pause doubles up to a minute, and it goes on."""
    scene.put(_progress(), ".progress.json")
    whole = scene.shelf.store.get

    def broken(*_: Any, **__: Any) -> Any:
        raise StoreUnavailableError("SlowDown")

    scene.then = [lambda: monkeypatch.setattr(scene.shelf.store, "get", broken), *[lambda: None] * 5]
    scene.then += [lambda: monkeypatch.setattr(scene.shelf.store, "get", whole)]
    sights = scene.watch(timeout=260)
    assert [each.status for each in sights] == ["running", *["unreachable"] * 6, "running", "running"]
    assert scene.slept == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0, 60.0, 5.0]
    assert sights[1].progress == sights[0].progress
    assert sights[1].note == "SlowDown"


def test_a_failure_of_an_earlier_attempt_does_not_end_it_while_a_later_one_tells_its_progress(scene: Scene) -> None:
    """It is told; the failure of the attempt itself does end it, and so does one of which nobody says whose it is."""
    scene.put(_failure(0), ".0-a1b2.failure.json")
    scene.put(_progress(attempt=1), ".progress.json")
    scene.then = [lambda: scene.put(_failure(1), ".1-c3d4.failure.json")]
    sights = scene.watch()
    assert [each.status for each in sights] == ["running", "failed"]
    assert sights[0].note == "an earlier attempt failed: Demo.NothingToSee"
    anybody = Scene()
    anybody.put({"error": "Bad", "cause": "text"}, ".x-a1b2.failure.json")
    anybody.put(_progress(attempt=1), ".progress.json")
    assert [each.status for each in anybody.watch()] == ["failed"]


def test_another_executions_outcome_and_progress_do_not_count(scene: Scene) -> None:
    """With --execution; the URL may have been used before."""
    other = f"{EXECUTION}-other"
    scene.put(_progress(execution=other), ".progress.json")
    scene.put(_success(execution=other))
    assert [each.status for each in scene.watch()] == ["succeeded"]
    scene.then = [lambda: scene.put(_progress(), ".progress.json"), lambda: scene.put(_success())]
    sights = scene.watch(execution=EXECUTION)
    assert [each.status for each in sights] == ["nothing", "running", "succeeded"]
    assert sights[0].note == "the output that lies there is another execution's"


def test_what_is_no_progress_is_noted_and_what_is_no_outcome_ends_it(scene: Scene) -> None:
    """The one is told beside what is known; the other is an error."""
    scene.put([1, 2, 3], ".progress.json")
    (sight,) = scene.watch(timeout=0)
    assert sight.status == "nothing"
    assert "is something else" in sight.note
    scene.put({"stepout": "output/9"})
    with pytest.raises(InvalidDocumentError):
        scene.watch()


def test_denied_listing_goes_on_while_progress_is_seen(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without s3:ListBucket, S3 calls an outcome that is not there yet a denied one."""

    def denied(*_: Any, **__: Any) -> Any:
        raise AccessDeniedError("denied or missing")

    whole = scene.shelf.store.head
    monkeypatch.setattr(scene.shelf.store, "head", denied)
    with pytest.raises(AccessDeniedError):
        scene.watch()
    scene.put(_progress(), ".progress.json")
    scene.put(_success())
    scene.then = [lambda: monkeypatch.setattr(scene.shelf.store, "head", whole)]
    sights = scene.watch()
    assert [each.status for each in sights] == ["running", "succeeded"]
    assert "denied or missing" in sights[0].note


def test_that_a_failure_could_not_be_seen_is_noted(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where objects may be read and not listed, a failure would never show: what to grant is said."""

    def denied(*_: Any, **__: Any) -> Any:
        raise AccessDeniedError("no listing")

    monkeypatch.setattr(scene.shelf.store, "listing", denied)
    (sight,) = scene.watch(timeout=0)
    assert sight.status == "nothing"
    assert "whether it failed could not be seen (no listing" in sight.note
    assert "grant s3:ListBucket" in sight.note


def test_only_what_lies_in_the_bucket_of_the_url_may_be_read() -> None:
    """A URL of no known kind is refused before any request."""
    with pytest.raises(ConfigurationError, match="the URL is wrong"):
        OutcomeWatch("http://example.com/x")

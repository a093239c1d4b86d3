"""Trouble between a live process and its services: lost answers, throttling, no route, closed and shared tokens."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.containers import SKIPS_WAITS, environment_for, multipart_uploads, objects, record_beside
from support.docs import blocks
from support.seaweed import free_ports
from support.wire import Wire, operation

import stepout
from stepout.artifacts.retries import WRITES

if TYPE_CHECKING:
    from support.seaweed import Seaweed
    from support.sfn_strict import StrictStepFunctions

PAGE = Path(__file__).resolve().parents[2] / "docs" / "explanation" / "failure-semantics.md"

WORK = """
import stepout
with stepout.open_task() as task:
    task.artifacts.put_bytes("mask", b"m" * 1000)
    task.result["rows"] = 3
"""
STREAMING = """
import stepout
with stepout.open_task() as task:
    with task.artifacts.open("mask", "wb") as sink:
        for _ in range(12):
            sink.write(b"m" * (1 << 20))
"""


def test_lost_response(sfn_strict: StrictStepFunctions, containers: Any) -> None:
    """Step Functions took the report and its answer was lost, twice: sent again, understood, reported once."""
    token = sfn_strict.issue()
    sfn_strict.fault("SendTaskSuccess", "lost", "lost")
    ended, printed = containers(WORK, token).finish()
    assert ended == 0, printed
    assert sfn_strict.success(token)["result"] == {"rows": 3}
    answers = [call.answer for call in sfn_strict.calls if call.action == "SendTaskSuccess"]
    assert answers == [None, None, "TaskTimedOut"]


def test_lost_response_to_a_failure(sfn_strict: StrictStepFunctions, containers: Any) -> None:
    """The same for a job that fails; its own exit code stays."""
    token = sfn_strict.issue()
    sfn_strict.fault("SendTaskFailure", "lost")
    ended, printed = containers(f"{WORK}    raise stepout.PermanentError('no such scene')\n", token).finish()
    assert ended == 1, printed
    assert sfn_strict.failure(token)[0] == "Stepout.Permanent"
    assert sfn_strict.count("SendTaskFailure") == 2
    assert "was not reported" not in printed


def test_lost_response_of_s3(
    sfn_strict: StrictStepFunctions, containers: Any, seaweed: Seaweed, seaweed_client: Any, bucket: str
) -> None:
    """The upload was completed and the answer lost: the object is recognised, not written again."""
    token = sfn_strict.issue()
    with Wire(seaweed.endpoint) as wire:
        fault = wire.when("CompleteMultipartUpload", "lost")
        ended, printed = containers(STREAMING, token, endpoint=wire.endpoint).finish()
        assert (ended, fault.hits) == (0, 1), printed
        begun = [line for line in wire.lines if operation(line) == "CreateMultipartUpload"]
        assert len([line for line in begun if "/stepout-trial-" not in line]) == 1
    pointer = sfn_strict.success(token)["artifacts"]["mask"]
    expected = [pointer["key"], pointer["blocks"]["key"], record_beside(pointer["key"])]
    assert sorted(objects(seaweed_client, bucket)) == sorted(expected)
    stepout.resolve_artifact(pointer, allow=[f"s3://{bucket}/"], client=seaweed_client).verify()
    assert multipart_uploads(seaweed_client, bucket) == []


def test_throttled_for_a_minute(sfn_strict: StrictStepFunctions, containers: Any) -> None:
    """The first heartbeat and then every report are refused, for over a minute of the job's own clock."""
    token = sfn_strict.issue()
    sfn_strict.fault("SendTaskHeartbeat", *["throttle"] * 3)
    sfn_strict.fault("SendTaskSuccess", *["throttle"] * 17)  # 61 seconds at the least, 123 at the most
    script = f"{SKIPS_WAITS}{WORK}    began = time.monotonic()\nprint('TOOK', time.monotonic() - began)\n"
    ended, printed = containers(script, token).finish()
    assert ended == 0, printed
    assert "the first heartbeat was not delivered; the task goes on without" in printed
    took = re.search(r"TOOK (\S+)", printed)
    assert took is not None
    assert float(took[1]) > 60
    assert sfn_strict.count("SendTaskSuccess") == 18
    assert sfn_strict.success(token)["result"] == {"rows": 3}


def test_throttled_by_s3(sfn_strict: StrictStepFunctions, containers: Any, seaweed: Seaweed) -> None:
    """SlowDown is no failure: it is waited out, more often than a failure would be."""
    token = sfn_strict.issue()
    with Wire(seaweed.endpoint) as wire:
        fault = wire.when("PutObject", "status", times=2 * WRITES.tries, code="SlowDown")
        ended, printed = containers(SKIPS_WAITS + WORK, token, endpoint=wire.endpoint).finish()
    assert ended == 0, printed
    assert (fault.hits, sfn_strict.success(token)["result"]) == (2 * WRITES.tries, {"rows": 3})


@pytest.mark.parametrize(("refusals", "code"), [(5, 0), (10_000, 1)])
def test_busy_s3(refusals: int, code: int, sfn_strict: StrictStepFunctions, containers: Any, seaweed: Seaweed) -> None:
    """A few failures of the store are waited out; one that goes on fails the task by a name that says: try again."""
    token = sfn_strict.issue()
    with Wire(seaweed.endpoint) as wire:
        fault = wire.when("PutObject", "status", times=refusals)
        ended, printed = containers(SKIPS_WAITS + WORK, token, endpoint=wire.endpoint).finish()
    assert ended == code, printed
    if code == 0:
        assert (fault.hits, sfn_strict.success(token)["result"]) == (refusals, {"rows": 3})
    else:
        assert sfn_strict.failure(token)[0] == "Stepout.StoreUnavailable"
        assert fault.hits == WRITES.tries


def test_record_that_cannot_be_written(
    sfn_strict: StrictStepFunctions, containers: Any, seaweed: Seaweed, seaweed_client: Any, bucket: str
) -> None:
    """The prefix takes no record: the state hears of a failure that trying again may help, and nothing else is kept."""
    token = sfn_strict.issue()
    with Wire(seaweed.endpoint) as wire:
        wire.when("PutObject", "status", times=10_000, status=403, code="AccessDenied")
        script = "import stepout\nwith stepout.open_task() as task:\n    task.result['rows'] = 3\n"
        ended, printed = containers(script, token, endpoint=wire.endpoint).finish()
    assert ended == 1, printed
    assert "its commit record was not written" in printed
    assert sfn_strict.failure(token)[0] == "Stepout.StoreUnavailable"
    assert objects(seaweed_client, bucket) == []


def _undelivered(sfn: StrictStepFunctions, containers: Any, token: str, script: str = WORK) -> tuple[int, str]:
    """Run a job that cannot reach Step Functions."""
    nowhere = f"http://127.0.0.1:{free_ports(1)[0]}"
    ended, printed = containers(SKIPS_WAITS + script, token, AWS_ENDPOINT_URL_SFN=nowhere).finish()
    assert sfn.calls == []
    return ended, printed


def test_step_functions_unreachable(
    sfn_strict: StrictStepFunctions, containers: Any, seaweed: Seaweed, seaweed_client: Any, bucket: str
) -> None:
    """The work is kept, the exit code is 3, the message says where; the page's snippet delivers it by hand, once."""
    token = sfn_strict.issue()
    ended, printed = _undelivered(sfn_strict, containers, token)
    assert ended == 3, printed
    kept = re.search(r"the output document is kept at (s3://\S+\.json)", printed)
    assert kept is not None, printed
    assert len(objects(seaweed_client, bucket)) == 3  # the artifact, the record, the undelivered document
    (snippet,) = [block for block in blocks(PAGE) if block.language == "python"]
    delivers = f"deliver({kept[1]!r}, os.environ['TOKEN'])"
    script = f"{snippet.text}\nimport os\n{delivers}\nprint('DELIVERED')\n{delivers}\n"
    environment = {**environment_for(sfn_strict, seaweed), "TOKEN": token}
    by_hand = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert by_hand.stdout == "DELIVERED\n", by_hand.stderr
    assert "TaskClosedError" in by_hand.stderr
    assert sfn_strict.success(token)["result"] == {"rows": 3}


def test_step_functions_unreachable_for_a_failure(sfn_strict: StrictStepFunctions, containers: Any) -> None:
    """Nothing is worth keeping: the job's own error is what its log and its exit code tell."""
    token = sfn_strict.issue()
    ended, printed = _undelivered(sfn_strict, containers, token, f"{WORK}    raise ValueError('no such scene')\n")
    assert ended == 1, printed
    assert "the failure ValueError could not be reported" in printed
    assert "no such scene" in printed


def test_expired_token_before_any_work(
    sfn_strict: StrictStepFunctions, containers: Any, seaweed_client: Any, bucket: str
) -> None:
    """The first heartbeat finds out; nothing is read or written."""
    token = sfn_strict.issue()
    sfn_strict.close(token)
    ended, printed = containers(WORK, token).finish()
    assert ended == 4, printed
    assert [call.action for call in sfn_strict.calls] == ["SendTaskHeartbeat"]
    assert objects(seaweed_client, bucket) == []


def test_expired_token(sfn_strict: StrictStepFunctions, containers: Any, seaweed_client: Any, bucket: str) -> None:
    """The state stops waiting while an upload runs: a heartbeat finds out, the upload is aborted, nobody is told."""
    token = sfn_strict.issue()
    script = f"{STREAMING}        ready()\n        time.sleep(60)\n"
    container = containers(script, token, STEPOUT_HEARTBEAT_SECONDS="1").until()
    deadline = time.monotonic() + 60
    while not multipart_uploads(seaweed_client, bucket):
        assert time.monotonic() < deadline, "the upload did not begin"
        time.sleep(0.05)
    sfn_strict.close(token)
    ended, printed = container.finish()
    assert ended == 4, printed
    assert "nobody waits for this task any more" in printed
    assert (objects(seaweed_client, bucket), multipart_uploads(seaweed_client, bucket)) == ([], [])
    assert sfn_strict.count("SendTaskSuccess") == sfn_strict.count("SendTaskFailure") == 0


def test_duplicate_delivery(sfn_strict: StrictStepFunctions, containers: Any, seaweed_client: Any, bucket: str) -> None:
    """Two containers with one token: one report is accepted, and its pointers are its own."""
    token = sfn_strict.issue()
    both = [containers(f"{WORK}    ready()\n    wait()\n", token) for _ in range(2)]
    for container in both:
        container.until()
    for container in both:
        container.go_on()
    ended = [container.finish() for container in both]
    assert sorted(code for code, _ in ended) == [0, 4], ended
    key = sfn_strict.success(token)["artifacts"]["mask"]["key"]
    found = objects(seaweed_client, bucket)
    keys = [each for each in found if not each.endswith("/_output.json")]
    assert len(keys) == 2
    assert key in keys
    assert sorted(found) == sorted([*keys, *(record_beside(each) for each in keys)])  # each was about to succeed
    assert {seaweed_client.get_object(Bucket=bucket, Key=each)["Body"].read() for each in keys} == {b"m" * 1000}

"""Array jobs in pull mode: every child has a place of its own, and a reader takes all of them or names the others."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.ministack import unique
from support.outcomes import make_table
from support.seaweed import ADMIN, Seaweed

import stepout
from stepout.callbacks.named_failure import handler
from stepout.callbacks.targets.context import TargetContext
from stepout.callbacks.targets.registry import parse_targets
from stepout.callbacks.worker.job import read_job
from stepout.schemas import RunIdentity
from stepout.schemas.array import array_index, child_in, child_url, index_ranges, own_url
from stepout.schemas.pull import failure_key

if TYPE_CHECKING:
    from pathlib import Path

    from stepout.local import LocalAws

EXECUTION = "arn:aws:states:eu-west-1:123456789012:execution:Segment:7f3c"
BATCH, KUBERNETES = "AWS_BATCH_JOB_ARRAY_INDEX", "JOB_COMPLETION_INDEX"

JOB = """
import os, signal, stepout

class NothingToSee(stepout.PermanentError):
    error_name = "Demo.NothingToSee"

with stepout.open_task() as task:
    task.artifacts.put_text("note", "by " + os.environ["NAME"])
    task.result["name"] = os.environ["NAME"]
    if os.environ["HOW"] == "fail":
        raise NothingToSee("too dark")
    if os.environ["HOW"] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
"""


def _environ(variable: str, index: int, output: str, **more: str) -> dict[str, str]:
    shared = {"STEPOUT_OUTPUT": output, "STEPOUT_EXECUTION": EXECUTION, "STEPOUT_STATE": "Mask", "STEPOUT_ATTEMPT": "0"}
    return {**shared, variable: str(index), **more}


def _report(environ: dict[str, str], **result: Any) -> None:
    """Do what a child does at its end, in this process."""
    run = RunIdentity.from_env(environ)
    (target,) = parse_targets(environ["STEPOUT_OUTPUT"], TargetContext(run=run, environ=environ))
    if result:
        target.success(stepout.TaskOutput(result=result, producer=run).to_dict())
    else:
        target.failure("Demo.NothingToSee", json.dumps({"message": "too dark", "run": run.to_dict()}))


# Real processes -----------------------------------------------------------------------------------------------------


def test_children_of_one_array_job_keep_apart(seaweed: Seaweed, bucket: str, seaweed_client: Any) -> None:
    """Five real processes with one URL: a failure that Batch tried again, a death, a failure; all are told apart."""
    url = f"s3://{bucket}/outcomes/7f3c/Mask.json"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "STEPOUT_"))}
    place = {
        "AWS_ENDPOINT_URL": seaweed.endpoint,
        "AWS_ACCESS_KEY_ID": ADMIN.access_key,
        "AWS_SECRET_ACCESS_KEY": ADMIN.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
        "STEPOUT_S3_PROFILE": "compatible",
        "STEPOUT_BUCKET": f"s3://{bucket}/runs",
    }

    def start(index: int, how: str, attempt: int = 1) -> subprocess.Popen[bytes]:
        tried = {"AWS_BATCH_JOB_ATTEMPT": str(attempt), "NAME": f"{index}.{attempt}", "HOW": how}
        environ = {**inherited, **place, **_environ(BATCH, index, url, **tried)}
        return subprocess.Popen([sys.executable, "-c", JOB], env=environ, stderr=subprocess.DEVNULL)

    first = [start(0, "well"), start(1, "fail"), start(2, "die"), start(3, "fail")]
    codes = [child.wait(120) for child in first]
    assert [code == 0 for code in codes] == [True, False, False, False]
    assert start(1, "well", attempt=2).wait(120) == 0
    assert start(1, "well", attempt=3).wait(120) != 0, "the first success of a child counts"

    read: Any = {"allow": [f"s3://{bucket}/"], "client": seaweed_client}
    with pytest.raises(stepout.ArrayIncompleteError) as caught:
        stepout.resolve_all(url, count=4, execution=EXECUTION, state="Mask", **read)
    error = caught.value
    assert (error.count, error.missing, list(error.failures)) == (4, (2,), [3])
    assert isinstance(failure := error.failures[3], stepout.TaskFailedError)
    assert failure.error == "Demo.NothingToSee"
    assert all(said in str(error) for said in ("2 of the 4", "died: 2", "failed: 3", "too dark", f"{url}/{{index}}"))
    kept: Any = error.resolved
    assert {where: (found.result["name"], found["note"].read_text()) for where, found in kept.items()} == {
        "$[0]": ("0.1", "by 0.1"),
        "$[1]": ("1.2", "by 1.2"),
    }
    assert [found.producer.map_index for found in kept.values()] == ["0", "1"]
    assert list(stepout.resolve_all(url, count=2, **read)) == ["$[0]", "$[1]"]
    for one in (stepout.resolve, stepout.resolve_output, stepout.resolve_all):
        with pytest.raises(stepout.ConfigurationError, match=r"no child's output stands for the whole.*count="):
            one(url, **read)
    assert stepout.resolve_output(f"{url}/1", execution=EXECUTION, **read).result == {"name": "1.2"}


# Both places, both services --------------------------------------------------------------------------------------


@pytest.fixture
def base(request: pytest.FixtureRequest, local_aws: LocalAws, monkeypatch: pytest.MonkeyPatch) -> str:
    """The beginning of an outcome's URL, in S3 or in DynamoDB, which the environment speaks of."""
    for name, value in local_aws.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("STEPOUT_S3_PROFILE", "compatible")
    name = unique("array")
    if request.param == "s3":
        local_aws.client("s3").create_bucket(Bucket=name)
        return f"s3://{name}/outcomes"
    make_table(local_aws.client("dynamodb"), name, "id")
    return f"dynamodb://{name}/outcomes"


BOTH = pytest.mark.parametrize("base", ["s3", "dynamodb"], indirect=True)


@BOTH
@pytest.mark.parametrize(
    ("variable", "place"),
    [(BATCH, "/Mask.json"), (KUBERNETES, "/{index}/Mask.json"), (KUBERNETES, "/Mask/"), (BATCH, "/{index}")],
)
def test_the_index_goes_into_the_url_and_into_the_identity(base: str, variable: str, place: str) -> None:
    """Where ``{index}`` stands, or else behind a slash; failures follow; the reader finds all, or says which lack."""
    url = base + place
    read: Any = {"allow": [base.rpartition("/")[0] + "/"], "execution": EXECUTION, "state": "Mask"}
    for index in (1, 2, 10):
        _report(_environ(variable, index, url, STEPOUT_MAP_INDEX="7"))
    _report(_environ(variable, 1, url, STEPOUT_MAP_INDEX="7"), index=1)
    with pytest.raises(stepout.ArrayIncompleteError) as caught:
        stepout.resolve_all(url, count=12, **read)
    assert (caught.value.missing, list(caught.value.failures)) == ((0, 3, 4, 5, 6, 7, 8, 9, 11), [2, 10])
    assert "died: 0, 3-9, 11; failed: 2, 10" in str(caught.value)
    for index in (0, 2):
        _report(_environ(variable, index, url, STEPOUT_MAP_INDEX="7"), index=index)
    found: Any = stepout.resolve_all(f" {url} ", count=3, **read)
    assert [(each.result["index"], each.producer.map_index) for each in found.values()] == [
        (0, "7-0"),
        (1, "7-1"),
        (2, "7-2"),
    ]
    with pytest.raises(stepout.ArrayIncompleteError, match=r"no valid output of this run: 0-2.*another run"):
        stepout.resolve_all(url, count=3, **{**read, "state": "Other"})
    for one in (stepout.resolve, stepout.resolve_output, stepout.resolve_all):
        with pytest.raises(stepout.ConfigurationError, match=r"no child's output stands for the whole.*count="):
            one(url, allow=read["allow"])


@BOTH
def test_the_lambda_names_the_failure_of_an_array_job(base: str) -> None:
    """Told the count, it raises the first failure by its name, with all indices; a success says how to read it."""
    url = f"{base}/Mask"
    event = {"url": url, "execution": EXECUTION, "state": "Mask"}

    def raised(**more: Any) -> tuple[str, Any]:
        with pytest.raises(Exception) as caught:
            handler({**event, **more})
        return type(caught.value).__name__, str(caught.value)

    name, cause = raised(count=3, caught={"Error": "Batch.Job", "Cause": "no capacity"})
    assert (name, "no capacity" in cause) == ("Stepout.NothingReported", True)
    _report(_environ(BATCH, 0, url), index=0)
    _report(_environ(BATCH, 2, url))
    name, cause = raised(count=4)
    assert (name, json.loads(cause)["array"]) == (
        "Demo.NothingToSee",
        {"count": 4, "failed": "2", "missing": "1, 3"},
    )
    assert "failed: 2; missing: 1, 3. Demo.NothingToSee: too dark" in json.loads(cause)["message"]
    for asked in (event, {**event, "url": f"{base}/{{index}}"}, {**event, "count": 0}, {**event, "count": "3"}):
        with pytest.raises(Exception, match="count") as caught:
            handler(asked)
        assert type(caught.value).__name__ == "Stepout.Configuration"
    assert handler({**event, "count": 1}) == {**event, "count": 1}
    _report(_environ(BATCH, 1, url, STEPOUT_STATE="Other"), index=1)  # it keeps nobody from seeing the others
    name, cause = raised(count=4)
    assert (name, json.loads(cause)["array"]) == (
        "Stepout.InvalidDocument",
        {"count": 4, "failed": "1-2", "missing": "3"},
    )


@pytest.mark.parametrize("base", ["dynamodb"], indirect=True)
def test_an_items_key_without_a_name_has_the_index_once(base: str) -> None:
    """``dynamodb://table`` keeps a child under ``{execution}/{state}/{mapIndex}``, and the reader says the same."""
    table = base.removesuffix("/outcomes")
    for index in range(2):
        _report(_environ(KUBERNETES, index, table), index=index)
        _report(_environ(KUBERNETES, index, table, STEPOUT_MAP_INDEX="7"), index=index)
    for place in (f"{table}/{EXECUTION}/Mask", f"{table}/{EXECUTION}/Mask/7-{{index}}"):
        found: Any = stepout.resolve_all(place, allow=[f"{table}/"], count=2)
        assert [each.result for each in found.values()] == [{"index": 0}, {"index": 1}]


def test_files_of_children_on_a_shared_volume_keep_apart(tmp_path: Path) -> None:
    """``file:`` follows the same rule, and makes the one folder that it adds."""
    for index in range(2):
        for name in ("outcome.json", "outcome-{index}.json"):
            _report(_environ(BATCH, index, f"file://{tmp_path}/{name}"), index=index)
    found = {
        str(path.relative_to(tmp_path)): json.loads(path.read_text()) for path in tmp_path.rglob("*") if path.is_file()
    }
    assert {name: (each["result"]["index"], each["producer"]["mapIndex"]) for name, each in found.items()} == {
        "outcome.json/0": (0, "0"),
        "outcome.json/1": (1, "1"),
        "outcome-0.json": (0, "0"),
        "outcome-1.json": (1, "1"),
    }


# Pure ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "map_index"),
    [
        ({BATCH: "0"}, "0"),
        ({KUBERNETES: "12"}, "12"),
        ({BATCH: "007"}, "7"),
        ({BATCH: "", KUBERNETES: "4"}, "4"),
        ({BATCH: "1", KUBERNETES: "2"}, "1"),
        ({BATCH: "1", "STEPOUT_MAP_INDEX": "3"}, "3-1"),
        ({KUBERNETES: "1", "STEPOUT_MAP_INDEX": "3-0"}, "3-0-1"),
        ({"STEPOUT_MAP_INDEX": "3"}, "3"),
        ({"AWS_BATCH_JOB_NODE_INDEX": "3"}, None),
    ],
)
def test_the_index_of_an_array_is_the_innermost(environ: dict[str, str], map_index: str | None) -> None:
    """An array job inside a Map has both: an explicit index is the same for all children, so none of both may win."""
    assert RunIdentity.from_env(environ).map_index == map_index


@pytest.mark.parametrize("value", ["a", "-1", "1.0", "1-2", "1234567890", "٣"])
@pytest.mark.parametrize("variable", [BATCH, KUBERNETES])
def test_an_index_that_is_none_is_an_error_by_its_variable(variable: str, value: str) -> None:
    """Before any work, and without the value."""
    with pytest.raises(stepout.ConfigurationError, match=f"^{variable} is something else"):
        RunIdentity.from_env({variable: value})


@pytest.mark.parametrize(
    "url", ["s3://results/{index}.json", "dynamodb://outcomes/{index}", "file:///tmp/{index}.json"]
)
def test_a_url_that_wants_an_index_is_an_error_without_one(url: str) -> None:
    """The mark is never written as it is."""
    with pytest.raises(stepout.ConfigurationError, match=f"{BATCH} nor {KUBERNETES} is set"):
        _report({"STEPOUT_OUTPUT": url, "STEPOUT_EXECUTION": EXECUTION, "STEPOUT_STATE": "Mask"}, index=0)


@pytest.mark.parametrize(
    "url", ["s3://results", "s3://results/", "s3://", "dynamodb://outcomes", "dynamodb://outcomes/"]
)
def test_a_url_without_a_key_gets_none_from_the_index(url: str) -> None:
    """A bucket alone stays a mistake, and a table alone has its key from the run."""
    assert own_url(url, {BATCH: "3"}) == url


@pytest.mark.parametrize("asked", [{"count": 2}, {"execution": EXECUTION}, {"state": "Mask"}])
def test_a_count_is_for_a_url(asked: dict[str, Any]) -> None:
    """A document says by itself what it holds."""
    with pytest.raises(stepout.ConfigurationError, match="are for the URL of an outcome"):
        stepout.resolve_all({"a": 1}, allow=[], **asked)


@pytest.mark.parametrize("count", [0, -1, True, 2.0, "2"])
def test_a_count_is_a_whole_number(count: Any) -> None:
    """From one on; nothing is read otherwise."""
    with pytest.raises(stepout.ConfigurationError, match="how many children"):
        stepout.resolve_all("s3://results/a", allow=["s3://results/"], count=count)


def test_a_workers_own_index_is_not_its_jobs() -> None:
    """A worker may itself be a Pod of an Indexed Job; the jobs that it is sent are not that Job's children."""
    job = read_job(json.dumps({"STEPOUT_TASK_TOKEN": "AAAA" * 20, "STEPOUT_MAP_INDEX": "3"}))
    environ = job.environment({BATCH: "1", KUBERNETES: "2", "HOME": "/"})
    assert (RunIdentity.from_env(environ).map_index, environ["HOME"]) == ("3", "/")


INDICES = st.integers(0, 10**9 - 1)
NAMES = st.sampled_from(["outcomes", "7f3c", "Mask.json", "0"])
KEYS = st.builds(
    lambda names, slash: "/".join(names) + slash, st.lists(NAMES, min_size=1, max_size=4), st.sampled_from(["", "/"])
)


@given(KEYS, INDICES, INDICES)
def test_no_two_children_share_a_place(key: str, one: int, other: int) -> None:
    """Different indices make different URLs, whose failures are those of one child alone."""
    url = f"s3://results/{key}"
    places = {own_url(url, {BATCH: str(index)}) for index in (one, other)}
    assert len(places) == len({one, other})
    assert all("//" not in place.removeprefix("s3://") for place in places)
    child = child_url(key, one)
    base = key.removesuffix("/")
    assert child_in(child[len(base) :]) == child_in(failure_key(child, attempt=0, nonce="a")[len(base) :]) == str(one)
    assert array_index({KUBERNETES: str(one)}) == str(one)


@given(st.sets(INDICES, max_size=60))
def test_indices_are_named_in_bounded_messages(indices: set[int]) -> None:
    """Runs as ranges, a dozen at most, and a count of the rest; nothing is lost."""
    text = index_ranges(indices)
    shown, _, more = text.partition(" and ")
    pairs = [part.partition("-")[::2] for part in shown.split(", ") if part]
    named = {index for low, high in pairs for index in range(int(low), int(high or low) + 1)}
    assert named <= indices
    assert len(named) + int(re.sub(r"\D", "", more) or 0) == len(indices)
    assert len(text) < 350

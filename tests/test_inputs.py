"""``task.input``: JSON passes unchanged; a document is read and verified when asked for, within an allow-list."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.containers import EXECUTION, environment_for

import stepout
from stepout.inputs import TaskInput, is_document
from stepout.schemas.errors import (
    ArtifactNotFoundError,
    ChecksumMismatchError,
    ConfigurationError,
    InvalidDocumentError,
    NotAllowedError,
)
from stepout.testing import MemoryStore, RecordingTarget

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.seaweed import Seaweed
    from support.sfn_strict import StrictStepFunctions

    from stepout.schemas import Pointer

ALLOW = ["s3://results/runs/"]
SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False)
)
JSON = st.recursive(
    SCALARS | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=20,
)


@pytest.fixture(autouse=True)
def same_hook() -> Iterator[None]:
    """An exception that a test caught leaves its task's hook in place; the next test starts without."""
    before = sys.excepthook, threading.excepthook, sys.unraisablehook
    yield
    sys.excepthook, threading.excepthook, sys.unraisablehook = before


@pytest.fixture
def store() -> MemoryStore:
    """A bucket in memory."""
    return MemoryStore("results")


def _put(store: MemoryStore, name: str, value: Any) -> Pointer:
    return stepout.ArtifactManager(store, "runs").put(name, value)


def _environ(document: Any, **more: str) -> dict[str, str]:
    return {"STEPOUT_INPUT": document if isinstance(document, str) else json.dumps(document), **more}


def _input(store: MemoryStore, document: Any, **options: Any) -> Any:
    """What a job sees as its input."""
    environ = _environ(document, STEPOUT_ALLOW="s3://results/runs/")
    with stepout.open_task(environ=environ, targets=RecordingTarget(), client=store, **options) as task:
        return task.input


@given(value=JSON)
def test_any_json_passes_unchanged(value: Any) -> None:
    """From the environment, as an argument's text, and as a value; the same type, too."""
    if value is None or is_document(value):
        return
    text = json.dumps(value)
    for options in ({"environ": {"STEPOUT_INPUT": text}}, {"environ": {}, "input": text}):
        found = stepout.open_task(targets=RecordingTarget(), **options).input
        assert (found, type(found)) == (value, type(value))
    if not isinstance(value, str):
        assert stepout.open_task(targets=RecordingTarget(), environ={}, input=value).input == value


def test_documents_inside_are_the_jobs_own(store: MemoryStore) -> None:
    """JSON that contains a pointer needs no allow-list, and is not read."""
    pointer = _put(store, "scene", {"id": 7}).to_dict()
    value = {"scenes": [pointer], "previous": {"stepout": "output/1", "result": {}}}
    assert stepout.open_task(environ=_environ(value), targets=RecordingTarget()).input == value
    assert stepout.open_task(environ=_environ({"stepout": "other"}), targets=RecordingTarget()).input == {
        "stepout": "other"
    }


def _output(store: MemoryStore, name: str, **more: Any) -> dict[str, Any]:
    return {"stepout": "output/1", "artifacts": {name: _put(store, name, b"1").to_dict()}, **more}


INPUTS: list[tuple[str, Any, list[str]]] = [
    ("plain JSON", lambda _: {"scene": 7}, []),
    ("an output", lambda store: _output(store, "a"), ["$"]),
    ("an output with data beside", lambda store: _output(store, "a", scene=7), ["$"]),
    (
        "an output with a failure beside, which Catch kept",
        lambda store: _output(store, "a", error={"Error": "E", "Cause": "c"}),
        ["$"],
    ),
    ("a merged output", lambda store: _output(store, "a", score=_output(store, "b")), ["$", "$.score"]),
    ("a list of one output", lambda store: [_output(store, "a")], ["$[0]"]),
    ("a list of outputs", lambda store: [_output(store, "a"), _output(store, "b")], ["$[0]", "$[1]"]),
    ("a pointer", lambda store: _put(store, "a", b"1").to_dict(), ["$"]),
    (
        "a pointer with an output merged into it",
        lambda s: {**_put(s, "a", b"1").to_dict(), "b": _output(s, "b")},
        2 * ["$"],
    ),
    ("an object of both", lambda s: {"a": _put(s, "a", b"1").to_dict(), "b": _output(s, "b")}, ["$.a", "$.b"]),
]


@pytest.mark.parametrize("passed", ["inline", "by a pointer to JSON"])
@pytest.mark.parametrize(("make", "places"), [each[1:] for each in INPUTS], ids=[each[0] for each in INPUTS])
def test_one_rule_whatever_the_input_holds(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch, make: Any, places: list[str], passed: str
) -> None:
    """One document, and no other in it, is what it names; everything else is the JSON; ``resolve_all`` finds all in it.

    A pointer to JSON is that JSON, by the same rule.
    """
    value = make(store)
    found = _input(store, _put(store, "large", value).to_dict() if passed != "inline" else value)
    if places == ["$"]:
        assert isinstance(found, stepout.Output if "artifacts" in value else stepout.Artifact)
    else:
        assert found == value
    monkeypatch.setenv("STEPOUT_ALLOW", "s3://results/runs/")
    every = stepout.resolve_all(found, client=store)
    assert len(every) == len(places)
    assert set(every) == set(places) or "$.b" in every


def test_a_pointer_in_the_json_of_a_pointer_is_followed_once(store: MemoryStore) -> None:
    """What lies behind the second one is the job's to read: no chain of pointers is followed to its end."""
    first = _put(store, "first", {"scene": 7})
    found = _input(store, _put(store, "second", first.to_dict()).to_dict())
    assert isinstance(found, stepout.Artifact)
    assert found.read_json() == {"scene": 7}


def test_a_merged_output_needs_no_allow_list_before_it_is_read(store: MemoryStore) -> None:
    """It passes as any JSON that holds documents does; whoever resolves them says what is allowed."""
    merged = _output(store, "a", score=_output(store, "b"))
    task = stepout.open_task(environ=_environ(merged), targets=RecordingTarget())
    assert task.input == merged
    every = stepout.resolve_all(task.input, allow=ALLOW, client=store)
    assert every["$.score"]["b"].read_bytes() == b"1"  # type: ignore[index]  # an Output


def test_an_argument_comes_before_the_environment() -> None:
    """Text is parsed as ``STEPOUT_INPUT`` is; ``None`` leaves it to the environment."""
    environ = {"STEPOUT_INPUT": '{"scene": 1}'}
    cases: list[tuple[Any, Any]] = [('{"scene": 2}', {"scene": 2}), (b"[3]", [3]), ({"scene": 4}, {"scene": 4})]
    for given_input, seen in [*cases, (None, {"scene": 1}), (" ", None)]:
        assert stepout.open_task(environ=environ, targets=RecordingTarget(), input=given_input).input == seen
    with pytest.raises(ConfigurationError, match="input= cannot be read"):
        stepout.open_task(environ={}, targets=RecordingTarget(), input="scene 2")


def test_a_pointer_to_json_is_that_json(store: MemoryStore) -> None:
    """What did not fit into the overrides; read once."""
    pointer = _put(store, "scene", {"tiles": list(range(5000))})
    assert pointer.size > 8192
    with stepout.open_task(
        environ=_environ(pointer.to_dict()), targets=RecordingTarget(), client=store, allow=ALLOW
    ) as task:
        assert task.input == {"tiles": list(range(5000))}
        store.replace(pointer.key, b"{}")
        assert task.input is task.input


def test_a_pointer_to_anything_else_is_an_artifact(store: MemoryStore) -> None:
    """It may be large: nothing is read before the job does so."""
    found = _input(store, _put(store, "raw", b"1,2,3").to_dict())
    assert isinstance(found, stepout.Artifact)
    assert found.read_bytes() == b"1,2,3"
    assert _input(store, {}, input=_put(store, "text", "x")).read_text() == "x"


def test_a_task_output_is_an_output(store: MemoryStore) -> None:
    """The one before, passed on whole as the state's input, or by the URL where pull mode wrote it."""
    target = RecordingTarget()
    with stepout.open_task(environ={}, targets=target, bucket=store, prefix="runs") as before:
        before.artifacts.put_bytes("raw", b"1,2,3")
        before.result["rows"] = 3
    document = target.successes[0]
    kept = _put(store, "kept", document)
    for form in (document, kept.url):
        found = _input(store, form)
        assert isinstance(found, stepout.Output)
        assert (found["raw"].read_bytes(), found.result) == (b"1,2,3", {"rows": 3})


def test_without_an_allow_list_a_document_is_refused_before_any_work(
    store: MemoryStore, sfn_strict: StrictStepFunctions
) -> None:
    """The state hears of it, once, and the message says what to set."""
    pointer = _put(store, "scene", {"id": 7})
    for form in (pointer.to_json(), pointer.url, '{"stepout": "output/1", "artifacts": {}}'):
        token = sfn_strict.issue()
        with pytest.raises(ConfigurationError, match=r"STEPOUT_ALLOW.*allow=\["):
            stepout.open_task(
                environ={"STEPOUT_INPUT": form}, token=token, sfn_client=sfn_strict.client(), client=store
            )
        assert sfn_strict.failure(token)[0] == "Stepout.Configuration"
    assert {call.action for call in sfn_strict.calls} == {"SendTaskFailure"}


def test_an_allow_list_that_cannot_be_read_is_refused_at_once() -> None:
    """Though the input is plain JSON, if it was passed as an argument."""
    with pytest.raises(ConfigurationError, match="allow"):
        stepout.open_task(environ={}, targets=RecordingTarget(), input={"scene": 7}, allow=["results"])


def _reads(store: MemoryStore, sfn: StrictStepFunctions, document: Any, allow: Any = ALLOW) -> tuple[Any, Any]:
    """Fail by reading the input inside the block; return error and cause as the state hears them."""
    token = sfn.issue()
    with stepout.open_task(
        environ=_environ(document), token=token, sfn_client=sfn.client(), client=store, allow=allow
    ) as task:
        _ = task.input
    return sfn.failure(token)


def test_an_input_that_cannot_be_read_fails_the_task_by_its_own_name(
    store: MemoryStore, sfn_strict: StrictStepFunctions
) -> None:
    """Missing, elsewhere, damaged, no JSON: what the state machine's Retry and Catch can tell apart."""
    missing = {**_put(store, "gone", {"id": 1}).to_dict(), "key": "runs/nowhere.json"}
    damaged = _put(store, "damaged", {"id": 1}).to_dict()
    store.replace(damaged["key"], b'{"id":2}\n'[: damaged["size"]])
    damaged.pop("etag", None)
    text = stepout.ArtifactManager(store, "runs").put_bytes("text", b"{", media_type="application/json")
    wanted: list[tuple[type[Exception], Any]] = [
        (ArtifactNotFoundError, missing),
        (ArtifactNotFoundError, "s3://results/runs/nowhere.json"),
        (NotAllowedError, {**damaged, "key": "private/x.json"}),
        (ChecksumMismatchError, damaged),
        (InvalidDocumentError, text.to_dict()),
        (InvalidDocumentError, {"stepout": "pointer/1", "bucket": "results"}),
        (InvalidDocumentError, {"stepout": "pointer/2"}),
    ]
    for kind, document in wanted:
        with pytest.raises(kind):
            _reads(store, sfn_strict, document)
        report = sfn_strict.calls[-1]
        assert (report.action, report.parameters["error"]) == ("SendTaskFailure", kind.error_name)  # type: ignore[attr-defined]  # each is one of ours


def test_an_empty_allow_list_lets_a_job_ignore_its_input(store: MemoryStore) -> None:
    """Only the job that asks for it is refused."""
    document, target = _put(store, "scene", {"id": 7}).to_dict(), RecordingTarget()
    with stepout.open_task(environ=_environ(document), targets=target, allow=[]) as task:
        task.result["rows"] = 0
    assert target.successes
    with (
        pytest.raises(NotAllowedError),
        stepout.open_task(environ=_environ(document), targets=RecordingTarget(), allow=[]) as task,
    ):
        _ = task.input


def test_threads_resolve_it_once(store: MemoryStore) -> None:
    """All of them get the same value."""
    pointer = _put(store, "scene", {"id": 7})
    task_input = TaskInput(pointer.to_dict(), allow=ALLOW, client=store, environ={})
    assert "not read yet" in repr(task_input)
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(task_input.read())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(value) for value in found}) == 1
    assert "7" not in repr(task_input)


def test_a_task_made_without_open_task_has_its_input_too(monkeypatch: pytest.MonkeyPatch, store: MemoryStore) -> None:
    """``OpenTask`` itself looks for the allow-list in the process's environment."""
    monkeypatch.delenv("STEPOUT_ALLOW", raising=False)
    assert stepout.OpenTask(RecordingTarget(), input={"scene": 7}).input == {"scene": 7}
    with pytest.raises(ConfigurationError, match="STEPOUT_ALLOW"):
        stepout.OpenTask(RecordingTarget(), input=_put(store, "scene", {"id": 7}).to_dict())


def test_inputs_that_are_urls_of_documents() -> None:
    """Those that ``resolve`` reads; anything else that is no JSON is a mistake."""
    for url in ("s3://results/outputs/1.json", "dynamodb://outcomes/1"):
        with pytest.raises(ConfigurationError, match="STEPOUT_ALLOW"):
            stepout.open_task(environ={"STEPOUT_INPUT": url}, targets=RecordingTarget())
    with pytest.raises(ConfigurationError, match="STEPOUT_INPUT cannot be read"):
        stepout.open_task(environ={"STEPOUT_INPUT": "https://example.com/1.json"}, targets=RecordingTarget())


JOB = """
import sys
import stepout
with stepout.open_task(input=sys.argv[1] if len(sys.argv) > 1 else None) as task:
    task.result["scene"] = task.input["scene"]
"""


def _run(script: str, environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=environ,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("way", ["argument", "pointer"])
def test_a_real_job_gets_its_input(way: str, sfn_strict: StrictStepFunctions, seaweed: Seaweed, bucket: str) -> None:
    """A process with a real S3 server: JSON or a pointer, from the command line or the environment."""
    client, token, text = seaweed.client(), sfn_strict.issue(), '{"scene": 7}'
    if "pointer" in way:
        text = stepout.ArtifactManager(bucket, "inputs", client=client).put_json("scene", {"scene": 7}).to_json()
    environ = {
        **environment_for(sfn_strict, seaweed),
        "STEPOUT_TASK_TOKEN": token,
        "STEPOUT_ALLOW": f"s3://{bucket}/inputs/",
        **({} if "argument" in way else {"STEPOUT_INPUT": text}),
    }
    ended = _run(JOB, environ, *([text] if "argument" in way else []))
    assert ended.returncode == 0, ended.stderr
    assert sfn_strict.success(token)["result"] == {"scene": 7}


FIRST = """
import sys
import stepout
with stepout.open_task() as task:
    task.artifacts.put_json("tiles", [1, 2, 3])
    if sys.argv[1:]:
        raise stepout.PermanentError("no such scene")
"""
SECOND = """
import stepout
with stepout.open_task() as task:
    task.result["tiles"] = task.input["tiles"].read_json()
"""


@pytest.mark.parametrize("fails", [False, True])
def test_a_job_takes_the_outcome_of_one_in_pull_mode(
    fails: bool, sfn_strict: StrictStepFunctions, seaweed: Seaweed, bucket: str
) -> None:
    """By its URL: the artifacts of a success, and a failure by a name of its own."""
    url, token = f"s3://{bucket}/outputs/1.json", sfn_strict.issue()
    environ = {**environment_for(sfn_strict, seaweed), "STEPOUT_BUCKET": bucket, "STEPOUT_PREFIX": "runs"}
    environ |= {"STEPOUT_EXECUTION": EXECUTION, "STEPOUT_STATE": "Tile"}
    first = _run(FIRST, {**environ, "STEPOUT_OUTPUT": url}, *(["fail"] if fails else []))
    assert first.returncode == int(fails), first.stderr
    given = {"STEPOUT_TASK_TOKEN": token, "STEPOUT_INPUT": url, "STEPOUT_ALLOW": f"s3://{bucket}/"}
    second = _run(SECOND, {**environ, **given})
    assert second.returncode == int(fails), second.stderr
    if fails:
        assert sfn_strict.failure(token)[0] == "Stepout.TaskFailed"
    else:
        assert sfn_strict.success(token)["result"] == {"tiles": [1, 2, 3]}

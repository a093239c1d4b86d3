"""``--at`` and ``--all``: Map results, chains, ResultWriter manifests; for ``show``, ``verify``, ``get``, ``cat``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from support.ministack import unique

from stepout import ArtifactManager

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stepout.local import LocalAws


@pytest.fixture
def run(
    run: Callable[..., tuple[int, str, str]], bucket: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """Run one command with a document on standard input; it may read the whole bucket."""
    monkeypatch.setenv("STEPOUT_ALLOW", f"s3://{bucket}/")
    return lambda document, *words: run(words[0], "-", *words[1:], stdin=json.dumps(document).encode())


@pytest.fixture
def put(local_aws: LocalAws, bucket: str) -> Callable[[str], dict[str, Any]]:
    """Return a function that makes an output with one artifact, ``note``, which holds its argument."""

    def make(text: str) -> dict[str, Any]:
        manager = ArtifactManager(bucket, "runs", client=local_aws.client("s3"), profile="compatible")
        return {"stepout": "output/1", "artifacts": {"note": manager.put_text("note", text).to_dict()}}

    return make


def _map(put: Any) -> tuple[Any, list[str]]:
    failed = {"Error": "Demo.Dark", "Cause": "dark"}
    return [put("a"), put("b"), failed], ["$[0].artifacts.note", "$[1].artifacts.note"]


def _chain(put: Any) -> tuple[Any, list[str]]:
    return {**put("a"), "score": put("b"), "scene": 7}, ["$.artifacts.note", "$.score.artifacts.note"]


def _pointers(put: Any) -> tuple[Any, list[str]]:
    return {"files": [put(text)["artifacts"]["note"] for text in "ab"]}, ["$.files[0]", "$.files[1]"]


def _event(put: Any) -> tuple[Any, list[str]]:
    return {"Records": [{"body": json.dumps(put(text))} for text in "ab"]}, [
        "$.Records[0].body.artifacts.note",
        "$.Records[1].body.artifacts.note",
    ]


SHAPES = pytest.mark.parametrize("shape", [_map, _chain, _pointers, _event])


@SHAPES
@pytest.mark.parametrize("reading", [True, False], ids=["allowed", "without a word about what may be read"])
def test_show_lists_all_by_path(
    run: Callable[..., tuple[int, str, str]],
    put: Any,
    shape: Any,
    reading: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each artifact of each document has the path at which it lies, whether or not anything may be read."""
    document, paths = shape(put)
    if not reading:
        monkeypatch.delenv("STEPOUT_ALLOW")
    code, out, err = run(document, "show", "--all", "--json")
    assert (code, [each["name"] for each in json.loads(out)["artifacts"]]) == (0, paths), err
    code, out, err = run(document, "show", "--all")
    assert (code, all(path in out for path in paths)) == (0, True)
    assert ("Demo.Dark" in err) == (shape is _map)


@pytest.mark.parametrize("shape", [_map, _event])
def test_verify_reads_all(run: Callable[..., tuple[int, str, str]], put: Any, shape: Any) -> None:
    """``--all`` checks every artifact; ``--at`` those of one document alone."""
    document, paths = shape(put)
    code, out, _ = run(document, "verify", "--all", "--json")
    found = json.loads(out)
    assert (code, found["ok"], [each["name"] for each in found["artifacts"]]) == (0, True, paths)
    second = paths[1].removesuffix(".artifacts.note")
    code, out, _ = run(document, "verify", "--at", second, "--json")
    assert (code, len(json.loads(out)["artifacts"])) == (0, 1)


@pytest.mark.parametrize("shape", [_chain, _pointers])
def test_get_brings_one_or_all(run: Callable[..., tuple[int, str, str]], put: Any, shape: Any, tmp_path: Path) -> None:
    """All get files of their own, named after their paths; one place, or one artifact's own path, gives that one."""
    document, paths = shape(put)
    code, out, err = run(document, "get", "--all", "-o", "all/", "--json")
    assert code == 0, err
    files = {each["name"]: each["path"] for each in json.loads(out)["artifacts"]}
    assert list(files) == paths
    assert [(tmp_path / files[path]).read_text() for path in paths] == ["a", "b"]
    for number, at in enumerate((paths[1].removesuffix(".artifacts.note"), paths[1])):
        assert run(document, "get", "--at", at, "-o", f"{number}.txt")[0] == 0
        assert (tmp_path / f"{number}.txt").read_text() == "b"
        assert run(document, "cat", "--at", at)[:2] == (0, "b")


def test_a_name_with_all_is_taken_from_each(run: Callable[..., tuple[int, str, str]], put: Any) -> None:
    """``--all --name note`` leaves the other artifacts where they are."""
    document, paths = _map(put)
    document[0]["artifacts"]["other"] = document[1]["artifacts"]["note"]
    code, out, _ = run(document, "get", "--all", "--name", "note", "--json")
    assert (code, [each["name"] for each in json.loads(out)["artifacts"]]) == (0, paths)


@pytest.mark.parametrize(
    ("command", "shape"),
    [("show", _chain), ("show", _pointers), ("show", _event), ("verify", _map), ("get", _map), ("cat", _map)],
)
def test_a_wrong_path_lists_those_that_exist(
    run: Callable[..., tuple[int, str, str]], put: Any, shape: Any, command: str
) -> None:
    """It is a usage error that names every path; without a path the error names them, and the options."""
    document, paths = shape(put)
    places = [path.removesuffix(".artifacts.note") for path in paths]
    for at in ("$.nowhere", "[7]"):
        code, out, err = run(document, command, "--at", at)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert all(place in err for place in places)
    code, _, err = run(document, command)
    assert code == 1
    assert "--at" in err
    assert "--all" in err
    assert all(place in err for place in places)


@pytest.mark.parametrize("command", ["show", "verify", "get"])
def test_a_document_of_none_is_an_error(run: Callable[..., tuple[int, str, str]], command: str) -> None:
    """Nothing to show, check or bring is not taken for success."""
    for words in (("--all",), ("--at", "$")):
        code, _, err = run({"scene": 7}, command, *words)
        assert (code, "no task output and no pointer" in err) == (1, True), err
    code, _, err = run({"Error": "Demo.Dark", "Cause": "dark"}, command, "--all")
    assert (code, "Demo.Dark" in err) == (1, True)


def _result_writer(aws: LocalAws, bucket: str, outputs: list[dict[str, Any]]) -> dict[str, Any]:
    """Write what a Distributed Map leaves: a manifest, a file of those that succeeded and one of those that failed."""
    client, folder = aws.client("s3"), unique("map")
    rows = [
        {"ExecutionArn": f"arn:aws:states:us-east-1:000000000000:execution:m:{index}", "Status": "SUCCEEDED"}
        | {"Output": json.dumps(output)}
        for index, output in enumerate(outputs)
    ]
    bad = [{"ExecutionArn": "arn:aws:states:us-east-1:000000000000:execution:m:9", "Status": "FAILED"}]
    bad[0] |= {"Error": "Demo.Dark", "Cause": "dark"}
    listed: dict[str, Any] = {"SUCCEEDED": [], "FAILED": [], "PENDING": []}
    for status, each in (("SUCCEEDED", rows), ("FAILED", bad)):
        body = json.dumps(each).encode()
        client.put_object(Bucket=bucket, Key=f"{folder}/{status}_0.json", Body=body)
        listed[status] = [{"Key": f"{folder}/{status}_0.json", "Size": len(body)}]
    manifest = {"DestinationBucket": bucket, "MapRunArn": "arn:x", "ResultFiles": listed}
    client.put_object(Bucket=bucket, Key=f"{folder}/manifest.json", Body=json.dumps(manifest).encode())
    return {"MapRunArn": "arn:x", "ResultWriterDetails": {"Bucket": bucket, "Key": f"{folder}/manifest.json"}}


def test_a_result_writers_manifest_is_followed(
    run: Callable[..., tuple[int, str, str]],
    put: Any,
    local_aws: LocalAws,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its children stand at paths of their own, those that failed are said; without a right to read, that is said."""
    document = _result_writer(local_aws, bucket, [put("a"), put("b")])
    paths = [f"$.ResultWriterDetails.SUCCEEDED[{index}].artifacts.note" for index in range(2)]
    code, out, err = run(document, "show", "--all", "--json")
    assert (code, [each["name"] for each in json.loads(out)["artifacts"]]) == (0, paths), err
    code, out, err = run(document, "verify", "--all", "--json")
    assert (code, [each["name"] for each in json.loads(out)["artifacts"]]) == (0, paths)
    assert "Demo.Dark" in err
    assert run(document, "cat", "--at", "$.ResultWriterDetails.SUCCEEDED[1]")[:2] == (0, "b")
    assert run(document, "show", "--at", paths[0])[0] == 0
    code, out, err = run(document, "get", "--at", "$.ResultWriterDetails.SUCCEEDED[2]")
    assert (code, "SUCCEEDED[0], $.ResultWriterDetails.SUCCEEDED[1]" in err) == (2, True)
    monkeypatch.delenv("STEPOUT_ALLOW")
    code, out, err = run(document, "show", "--all")
    assert (code, "--allow" in err) == (0, True)


def test_files_that_would_be_one_are_refused(run: Callable[..., tuple[int, str, str]], put: Any) -> None:
    """Two paths that make one file name are an error before anything is read, not a file that is replaced."""
    code, _, err = run({"a b": put("1"), "a/b": put("2")}, "get", "--all")
    assert (code, "--at" in err) == (2, True)


def test_what_needs_no_read_is_listed_whatever_the_allow_list_says(
    run: Callable[..., tuple[int, str, str]],
    put: Any,
    local_aws: LocalAws,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """``show --all`` and ``show --at`` list pointers outside the allow-list; a manifest outside it is refused."""
    document, paths = _map(put)
    monkeypatch.setenv("STEPOUT_ALLOW", "s3://elsewhere/")
    code, out, err = run(document, "show", "--all", "--json")
    assert (code, [each["name"] for each in json.loads(out)["artifacts"]]) == (0, paths), err
    assert run(document, "show", "--at", paths[1])[0] == 0
    kept = [*document, _result_writer(local_aws, bucket, [put("c")])]
    code, _, err = run(kept, "show", "--all")
    assert (code, "outside the allow-list" in err) == (1, True)
    monkeypatch.setenv("STEPOUT_ALLOW", f"s3://{bucket}/")
    document[0]["artifacts"]["note"]["bucket"] = "somewhere-else"
    code, out, err = run(kept, "show", "--all", "--json")
    expected = [*paths, "$[3].ResultWriterDetails.SUCCEEDED[0].artifacts.note"]
    assert (code, [each["name"] for each in json.loads(out)["artifacts"]]) == (0, expected), err


@pytest.mark.parametrize("command", ["show", "verify"])
def test_advice_names_what_at_takes(run: Callable[..., tuple[int, str, str]], put: Any, command: str) -> None:
    """Each path that the error advises is taken, a pointer's too; failures are named apart."""
    document = [*_map(put)[0], put("c")["artifacts"]["note"]]
    code, _, err = run(document, command)
    advised, _, after = err.partition("Pass --at with one of these paths")
    assert (code, "$[2]" in advised, "$[2] (Demo.Dark)" in after) == (1, False, True), err
    for path in ("$[0]", "$[1]", "$[3]"):
        assert path in advised
        assert run(document, command, "--at", path)[0] == 0


@pytest.mark.parametrize("command", ["show", "verify"])
def test_a_pointer_beside_the_output_is_named(run: Callable[..., tuple[int, str, str]], put: Any, command: str) -> None:
    """The output alone is looked at, and standard error says what was not."""
    code, _, err = run([put("a"), put("b")["artifacts"]["note"]], command)
    assert (code, err) == (0, "stepout: 1 pointer beside it was not looked at: $[1]; --all\n")

"""``put``, ``get``, ``cat``, ``show`` and ``verify`` against the local AWS."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from support.listings import put_tree
from support.ministack import unique
from support.other_s3 import other_s3

from stepout import ArtifactManager, resolve_artifact
from stepout.artifacts.s3.clients import profile_named
from stepout.artifacts.s3.store import S3Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepout.local import LocalAws


@pytest.fixture
def output(local_aws: LocalAws, bucket: str) -> dict[str, Any]:
    """An output document of two artifacts."""
    manager = ArtifactManager(bucket, "runs", client=local_aws.client("s3"), profile="compatible")
    artifacts = {
        "notes": manager.put_text("notes", "some notes\n").to_dict(),
        "numbers": manager.put_json("numbers", [1, 2, 3]).to_dict(),
    }
    return {"stepout": "output/1", "artifacts": artifacts, "result": {"rows": 3}, "producer": {"state": "Mask"}}


def test_file_goes_and_comes_back(run: Callable[..., tuple[int, str, str]], bucket: str, tmp_path: Path) -> None:
    """What ``put`` printed is a pointer that ``get`` and ``verify`` take."""
    content = bytes(range(256)) * 40_000  # more than one part
    (tmp_path / "data.bin").write_bytes(content)
    code, out, err = run(
        "put", "data", "data.bin", "--bucket", bucket, "--prefix", "runs", "--annotate", "n=3", "--annotate", "who=me"
    )
    assert (code, err) == (0, "")
    pointer = json.loads(out)
    assert pointer["size"] == len(content)
    assert {"n": 3, "who": "me"}.items() <= pointer["annotations"].items()
    (tmp_path / "pointer.json").write_text(out)
    assert run("get", "pointer.json", "-o", "back.bin")[0] == 0
    assert (tmp_path / "back.bin").read_bytes() == content
    code, out, _ = run("verify", out, "--json")
    assert (code, json.loads(out)["ok"]) == (0, True)


def test_standard_input_goes_and_standard_output_comes(run: Callable[..., tuple[int, str, str]], bucket: str) -> None:
    """``put NAME -`` streams standard input; ``cat`` gives the same bytes."""
    code, out, _ = run(
        "put",
        "note",
        "-",
        "--bucket",
        f"s3://{bucket}/runs",
        "--media-type",
        "text/plain",
        "--json",
        stdin=b"caf\xc3\xa9",
    )
    assert (code, out.count("\n"), json.loads(out)["artifacts"][0]["mediaType"]) == (0, 1, "text/plain")
    assert run("cat", "-", stdin=out.encode()) == (0, "café", "")


def test_folder_goes_and_comes_back(run: Callable[..., tuple[int, str, str]], bucket: str, tmp_path: Path) -> None:
    """A folder is put as a directory artifact and comes back as a folder; ``cat`` says what to do instead."""
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "deep" / "a.txt").write_text("a")
    code, out, err = run("put", "tree", "in", "--bucket", bucket, "--prefix", "runs")
    assert (code, err) == (0, "")
    assert run("get", out, "-o", "out")[0] == 0
    assert (tmp_path / "out" / "deep" / "a.txt").read_text() == "a"
    code, _, err = run("cat", out)
    assert (code, "stepout get" in err) == (2, True)


def test_a_folder_is_resumed_from_earlier_tries(
    run: Callable[..., tuple[int, str, str]], bucket: str, local_aws: LocalAws, tmp_path: Path
) -> None:
    """``--resume-from`` names an earlier try's folder, once for each; files that are the same there stay there."""
    (tmp_path / "in").mkdir()
    earlier: list[str] = []
    for name in ("a", "b", "c"):
        (tmp_path / "in" / name).write_text(name)
        code, out, _ = run("put", "tree", "in", "--bucket", bucket, "--prefix", "runs", *earlier)
        assert code == 0
        pointer = json.loads(out)
        earlier += ["--resume-from", f"s3://{bucket}/{pointer['key'].removesuffix('tree.jsonl')}"]
    artifact = resolve_artifact(pointer, allow=[f"s3://{bucket}/runs/"], client=local_aws.client("s3"))
    urls = {path: each.pointer.url for path, each in artifact.files().items()}
    assert [urls[name].removesuffix(f"tree/{name}") for name in "ab"] == earlier[1:4:2]
    code, _, err = run("put", "tree", "in/a", "--bucket", bucket, *earlier)
    assert (code, "is no folder. Nothing was sent" in err) == (2, True)


def test_a_dataset_is_shown_verified_and_brought(
    run: Callable[..., tuple[int, str, str]], bucket: str, local_aws: LocalAws, tmp_path: Path
) -> None:
    """It has the size of its files, comes as a folder of partitions, and is verified file by file."""
    manager = ArtifactManager(bucket, "runs", client=local_aws.client("s3"), profile="compatible")
    pointer = manager.put_dataset("days", pa.table({"id": [1, 2, 3], "day": ["a", "b", "a"]}), partition_by=["day"])
    document, size = pointer.to_json(), (pointer.annotations or {})["bytes"]
    code, out, _ = run("show", document, "--json")
    assert (code, json.loads(out)["artifacts"][0]["size"]) == (0, size)
    assert run("get", document)[0] == 0
    paths = ["day=a/part-00000.parquet", "day=b/part-00000.parquet"]
    assert sorted(file.relative_to(tmp_path / "days").as_posix() for file in tmp_path.rglob("*.parquet")) == paths
    assert run("verify", document)[0] == 0
    code, _, err = run("cat", document)
    assert (code, "stepout get" in err) == (2, True)
    key = f"{pointer.key.removesuffix('.json')}/{paths[1]}"
    local_aws.client("s3").delete_object(Bucket=bucket, Key=key)
    code, out, err = run("verify", document)
    assert (code, paths[1] in err) == (1, True)


def test_one_file_of_a_directory_is_shown_and_brought(
    run: Callable[..., tuple[int, str, str]], bucket: str, local_aws: LocalAws, tmp_path: Path
) -> None:
    """``--file`` says which; ``show`` tells how many there are and the digest of them all, and reads nothing."""
    store = S3Store(local_aws.client("s3"), bucket, profile=profile_named("compatible"))
    document = put_tree(store, {"deep/a.txt": b"a", "b.txt": b"b", "logs": None}, programs=["b.txt"]).to_json()
    code, out, _ = run("show", document)
    tree = json.loads(document)["annotations"]["directory"]["tree"]
    kind = ["application/vnd.stepout.directory+jsonl,", "2", "files"]
    assert (code, out.splitlines()[1].split()[:8]) == (0, ["out.jsonl", "2", "B", *kind, "tree", f"{tree[:12]}…"])
    assert run("cat", document, "--file", "deep/a.txt") == (0, "a", "")
    assert run("get", document, "--file", "deep/a.txt")[0] == 0
    assert run("get", document, "--file", "b.txt", "-o", "other")[0] == 0
    assert ((tmp_path / "a.txt").read_text(), (tmp_path / "other").read_text()) == ("a", "b")
    code, _, err = run("cat", document, "--file", "deep/b.txt")
    assert (code, "has no file 'deep/b.txt'" in err) == (1, True)
    assert run("get", document, "-o", "whole")[0] == 0
    assert (tmp_path / "whole" / "logs").is_dir()
    assert run("verify", document)[0] == 0
    local_aws.client("s3").delete_object(Bucket=bucket, Key="runs/out/b.txt")
    code, out, err = run("verify", document)
    assert (code, "runs/out/b.txt" in err) == (1, True)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("get", '{"stepout": "output/1", "artifacts": {}}', "--file", "x"), 2, "of which artifact?"),
        (("put", "a", "here.txt"), 2, "Pass --bucket, or set STEPOUT_BUCKET"),
        (("put", "not-a-name", "here.txt", "--bucket", "some-bucket"), 1, "not-a-name"),
        (("put", "a", "nowhere.txt", "--bucket", "some-bucket"), 1, "nowhere.txt"),
        (("put", "a", "here.txt", "--bucket", "no-such-bucket-here"), 1, "no-such-bucket-here"),
        (("get", "nowhere.json"), 1, "nowhere.json"),
        (("get", "{}"), 1, "no task output and no pointer"),
        (("get", "{"), 1, "is not JSON at line 1"),
        (("show", '{"stepout": "output/1"}'), 1, "$.artifacts: is missing"),
        (("schema",), 2, "pointer or output"),
    ],
)
def test_mistake_is_one_line(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    """Whatever goes wrong is one line on standard error that says what, and an exit code."""
    (tmp_path / "here.txt").write_text("here")
    found, out, err = run(*words)
    assert (found, out) == (code, "")
    assert said in err
    assert err.startswith("stepout: ")
    assert err.count("\n") == 1


def test_annotation_without_a_value_is_a_usage_error(run: Callable[..., tuple[int, str, str]]) -> None:
    """``--annotate`` wants KEY=VALUE."""
    code, _, err = run("put", "a", "b", "--annotate", "novalue")
    assert (code, "expected KEY=VALUE" in err) == (2, True)


def test_reading_wants_to_be_allowed(
    run: Callable[..., tuple[int, str, str]], output: dict[str, Any], bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a word about what may be read nothing is read; each way to say it works; outside of it is refused."""
    monkeypatch.delenv("STEPOUT_ALLOW")
    document = json.dumps(output)
    for command in ("verify", "get", "cat"):
        code, _, err = run(command, document)
        assert (code, "--allow s3://BUCKET/PREFIX/" in err) == (2, True)
    assert run("verify", document, "--allow", f"s3://{bucket}/runs/")[0] == 0
    assert run("verify", document, "--allow", "s3://other/", "--allow", f"s3://{bucket}/")[0] == 0
    assert run("verify", document, "--allow-any")[0] == 0
    code, _, err = run("verify", document, "--allow", f"s3://{bucket}/other/")
    assert (code, "before any request" in err) == (1, True)


def test_output_is_downloaded_whole_or_by_name(
    run: Callable[..., tuple[int, str, str]], output: dict[str, Any], tmp_path: Path
) -> None:
    """``get`` brings every artifact into a folder, or the one that is named."""
    document = json.dumps(output)
    code, out, _ = run("get", document, "-o", "all/", "--json")
    assert code == 0
    assert {each["name"]: each["path"] for each in json.loads(out)["artifacts"]} == {
        "notes": str(Path("all/notes.txt")),
        "numbers": str(Path("all/numbers.json")),
    }
    assert json.loads((tmp_path / "all" / "numbers.json").read_text()) == [1, 2, 3]
    assert run("get", document, "--name", "notes")[0] == 0
    assert (tmp_path / "notes.txt").read_text() == "some notes\n"
    assert run("cat", document, "--name", "notes") == (0, "some notes\n", "")
    assert run("get", document, "--name", "notes", "-o", "-") == (0, "some notes\n", "")


def test_choice_that_cannot_be_made_says_what_there_is(
    run: Callable[..., tuple[int, str, str]], output: dict[str, Any]
) -> None:
    """An unknown name, one file for two artifacts, and ``cat`` of two are usage errors that name the artifacts."""
    document = json.dumps(output)
    for words in (("get", document, "--name", "other"), ("cat", document)):
        code, _, err = run(*words)
        assert (code, "notes, numbers" in err) == (2, True)
    code, _, err = run("get", document, "-o", "one.file")
    assert (code, "2 artifacts do not fit into one file" in err) == (2, True)


def test_document_never_chooses_a_file_to_replace(
    run: Callable[..., tuple[int, str, str]], output: dict[str, Any], tmp_path: Path
) -> None:
    """A file that is there is replaced only where the command names it."""
    (tmp_path / "notes.txt").write_text("mine")
    document = json.dumps(output)
    code, _, err = run("get", document, "--name", "notes")
    assert (code, "notes.txt is there already" in err) == (2, True)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert run("get", document, "--name", "notes", "-o", "notes.txt")[0] == 0
    assert (tmp_path / "notes.txt").read_text() == "some notes\n"


def test_verify_says_which_failed(
    run: Callable[..., tuple[int, str, str]], output: dict[str, Any], local_aws: LocalAws, bucket: str
) -> None:
    """A changed object and a missing one are named with their errors, the others are ok, the exit code is 1."""
    client = local_aws.client("s3")
    pointer = output["artifacts"]["notes"]
    good = ArtifactManager(bucket, "runs", client=client, profile="compatible").put_bytes("good", b"good").to_dict()
    gone = {**good, "key": good["key"] + ".gone"}
    changed = {name: value for name, value in pointer.items() if name not in {"etag", "versionId"}}
    client.put_object(Bucket=bucket, Key=pointer["key"], Body=b"some other\n")
    document = json.dumps({"stepout": "output/1", "artifacts": {"changed": changed, "gone": gone, "good": good}})
    code, out, err = run("verify", document, "--json")
    findings = {finding["name"]: finding for finding in json.loads(out)["artifacts"]}
    assert code == 1
    assert {name: finding["ok"] for name, finding in findings.items()} == {
        "changed": False,
        "gone": False,
        "good": True,
    }
    assert findings["changed"]["error"] == "Stepout.ChecksumMismatch"
    assert findings["gone"]["error"] == "Stepout.ArtifactNotFound"
    code, out, err = run("verify", document)
    assert (code, "Stepout.ChecksumMismatch" in out, err.count("\n")) == (1, True, 2)


def test_verify_reads_a_spilled_result_too(
    run: Callable[..., tuple[int, str, str]], output: dict[str, Any], local_aws: LocalAws, bucket: str
) -> None:
    """An output is not whole if the result that it points to is gone; ``show`` of its URL lists that as well."""
    manager = ArtifactManager(bucket, "runs", client=local_aws.client("s3"), profile="compatible")
    spilled = manager.put_json("spilled", {"rows": 3}).to_dict()
    document = json.dumps({**output, "result": spilled})
    code, out, _ = run("verify", document, "--json")
    assert (code, [each["name"] for each in json.loads(out)["artifacts"]]) == (0, ["notes", "numbers", "(result)"])
    client, key = local_aws.client("s3"), f"runs/{unique('spilled')}.json"
    client.put_object(Bucket=bucket, Key=key, Body=document.encode())
    assert "(result)" in run("show", f"s3://{bucket}/{key}")[1]

    client.delete_object(Bucket=bucket, Key=spilled["key"])
    code, _, err = run("verify", document)
    assert (code, "(result)" in err) == (1, True)


def test_an_event_is_a_document_for_every_command(
    run: Callable[..., tuple[int, str, str]], output: dict[str, Any]
) -> None:
    """A document may stand as text in an event, for ``show`` as for the others."""
    event = json.dumps({"Records": [{"body": json.dumps(output)}]})
    assert run("verify", event)[0] == 0
    code, out, err = run("show", event)
    assert (code, "numbers" in out, err) == (0, True, "")


def test_corrupt_artifact_is_not_downloaded(
    run: Callable[..., tuple[int, str, str]], output: dict[str, Any], local_aws: LocalAws, bucket: str, tmp_path: Path
) -> None:
    """``get`` of bytes that changed leaves no file, whole or in parts."""
    pointer = {name: value for name, value in output["artifacts"]["notes"].items() if name not in {"etag", "versionId"}}
    local_aws.client("s3").put_object(Bucket=bucket, Key=pointer["key"], Body=b"some other\n")
    code, _, err = run("get", json.dumps(pointer), "-o", "notes.txt")
    assert (code, pointer["key"] in err) == (1, True)
    assert list(tmp_path.iterdir()) == []


def test_show_reads_nothing(
    run: Callable[..., tuple[int, str, str]], output: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``show`` lists an output without a network, and JSON for machines has the whole pointers."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    document = json.dumps({"detail": {"output": output}})  # found at any depth, as resolve finds it
    code, out, err = run("show", document)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "task output  state=Mask"
    assert lines[1].split() == ["NAME", "SIZE", "TYPE", "CHECKSUM", "WHERE"]
    assert lines[2].startswith("notes    11 B")
    assert output["artifacts"]["numbers"]["checksum"]["sha256"][:12] in lines[3]
    assert lines[4] == 'result: {"rows":3}'
    listed = json.loads(run("show", "-", "--json", stdin=document.encode())[1])["artifacts"]
    assert [(each["name"], each["pointer"]) for each in listed] == list(output["artifacts"].items())
    assert json.loads(run("show", json.dumps(output["artifacts"]["notes"]), "--json")[1])["artifacts"][0]["size"] == 11


def test_show_makes_control_characters_harmless(
    run: Callable[..., tuple[int, str, str]], output: dict[str, Any]
) -> None:
    """A document cannot send escape sequences to the terminal."""
    pointer = {**output["artifacts"]["notes"], "mediaType": "text/\x1b[31mplain"}
    code, out, err = run("show", json.dumps(pointer))
    assert "\x1b" not in out + err
    assert code in {0, 1}


def test_manifest_is_followed_if_that_is_allowed(
    run: Callable[..., tuple[int, str, str]],
    output: dict[str, Any],
    local_aws: LocalAws,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """``show`` lists what a manifest holds where it may read it, and names the manifest where it may not."""
    manager = ArtifactManager(bucket, "runs", client=local_aws.client("s3"), profile="compatible")
    manifest = manager.put_document("the-output", output).to_dict()
    document = json.dumps({"stepout": "output/1", "manifest": manifest})
    code, out, _ = run("show", document, "--json")
    assert (code, [each["name"] for each in json.loads(out)["artifacts"]]) == (0, ["notes", "numbers"])
    code, out, _ = run("show", "-", "--json", stdin=document.encode())
    assert (code, [each["name"] for each in json.loads(out)["artifacts"]]) == (0, ["notes", "numbers"])
    assert run("verify", document)[0] == 0
    monkeypatch.delenv("STEPOUT_ALLOW")
    code, out, err = run("show", document)
    assert (code, "(manifest)" in out, "--allow" in err) == (0, True, True)


def test_pull_mode_output_is_read_from_its_url(
    run: Callable[..., tuple[int, str, str]], output: dict[str, Any], local_aws: LocalAws, bucket: str
) -> None:
    """The URL of an output document stands for the document."""
    key = f"runs/{unique('pull')}.json"
    local_aws.client("s3").put_object(Bucket=bucket, Key=key, Body=json.dumps(output).encode())
    code, out, _ = run("show", f"s3://{bucket}/{key}", "--json")
    assert (code, [each["name"] for each in json.loads(out)["artifacts"]]) == (0, ["notes", "numbers"])
    assert run("cat", f"s3://{bucket}/{key}", "--name", "numbers") == (0, "[1,2,3]", "")


def test_endpoint_and_profile_can_be_given(
    run: Callable[..., tuple[int, str, str]], local_aws: LocalAws, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``--endpoint-url`` and ``--profile`` lead to the server; the environment stays as it is."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:2")
    monkeypatch.delenv("STEPOUT_S3_PROFILE")
    there = ("--endpoint-url", local_aws.endpoint, "--profile", "compatible")
    code, out, _ = run("put", "a", "-", "--bucket", bucket, "--prefix", "runs", *there, stdin=b"x" * 6_000_000)
    assert code == 0
    assert run("verify", out, *there)[0] == 0
    assert os.environ["AWS_ENDPOINT_URL_S3"] == "http://127.0.0.1:2"
    assert "STEPOUT_S3_PROFILE" not in os.environ


def test_profile_and_payer_can_be_given(run: Callable[..., tuple[int, str, str]]) -> None:
    """``--profile`` and ``--requester-pays`` hold for each request of a command, for a HEAD too."""
    refusal = (400, "InvalidRequest", "x-amz-checksum headers are not supported")
    with other_s3(refuses_checksums=refusal, requester_pays=True) as server:
        there = ("--endpoint-url", server.endpoint, "--profile", "no-checksums", "--requester-pays")
        code, out, err = run("put", "a", "-", "--bucket", "results", "--prefix", "runs", *there, stdin=b"some bytes")
        assert (code, err) == (0, "")
        assert run("cat", out, "--allow", "s3://results/", *there) == (0, "some bytes", "")
        foreign = json.dumps({"@middy-store": f"s3://results/{json.loads(out)['key']}"})  # described by a HEAD
        assert run("cat", foreign, "--allow", "s3://results/", *there) == (0, "some bytes", "")

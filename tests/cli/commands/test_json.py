"""``--json`` of every command that has it: one object on one line; and how large a directory is said to be."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from stepout import ArtifactManager
from stepout.cli import COMMANDS, command_parser, main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stepout.local import LocalAws

FILES = {"a.txt": b"a" * 1500, "b/c.txt": b"c" * 2500}
SUM = 4000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two files of 4,000 bytes together."""
    for name, content in FILES.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(content)
    return tmp_path / "in"


@pytest.fixture
def output(local_aws: LocalAws, bucket: str, folder: Path) -> dict[str, Any]:
    """An output of a directory and a file."""
    manager = ArtifactManager(bucket, "runs", client=local_aws.client("s3"), profile="compatible")
    artifacts = {"tree": manager.put_directory("tree", folder), "notes": manager.put_text("notes", "some notes\n")}
    return {"stepout": "output/1", "artifacts": {name: each.to_dict() for name, each in artifacts.items()}}


@pytest.fixture
def run(
    local_aws: LocalAws,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    folder: Path,
) -> Callable[..., tuple[int, str, str]]:
    """Run a command beside the folder: exit code, standard output, standard error."""
    for name, value in {**local_aws.environ, "STEPOUT_ALLOW": f"s3://{bucket}/", "STEPOUT_BUCKET": bucket}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(folder.parent)
    return lambda *words: (main(words), *capsys.readouterr())


WITH_JSON = {
    "put": ("put", "tree", "in"),
    "get": ("get", "OUTPUT", "-o", "out/"),
    "show": ("show", "OUTPUT"),
    "verify": ("verify", "OUTPUT"),
    "schema": ("schema", "pointer"),
    "schema --check": ("schema", "--check", "output.json", "missing.json"),
    "gc": ("gc", "PLACE", "--older-than", "1d"),
    "lifecycle": ("lifecycle", "--prefix", "runs", "--keep", "30d"),
    "doctor": ("doctor", "machine.json", "--fail-on", "never"),
    "doctor --rules": ("doctor", "--rules"),
}
ARTIFACT = {"name", "url", "size", "mediaType", "pointer"}


def test_every_command_with_json_is_tested_here() -> None:
    """A new one has to say what its object holds; ``local`` and ``watch`` run on, and are tested as processes."""
    parsers = command_parser([command.name for command in COMMANDS])._commands()
    assert {name for name, each in parsers.items() if "--json" in each._option_string_actions} == {
        *(words[0] for words in WITH_JSON.values()),
        "local",
        "watch",
    }


@pytest.mark.parametrize("name", WITH_JSON)
def test_json_is_one_object_on_one_line(
    run: Callable[..., tuple[int, str, str]], output: dict[str, Any], tmp_path: Path, name: str
) -> None:
    """Standard output has nothing else; what names artifacts lists them in the one form."""
    (tmp_path / "output.json").write_text(json.dumps(output))
    (tmp_path / "missing.json").write_text(json.dumps({"stepout": "output/1"}))
    (tmp_path / "machine.json").write_text(json.dumps({"StartAt": "A", "States": {"A": {"Type": "Succeed"}}}))
    places = {"OUTPUT": json.dumps(output), "PLACE": f"s3://{output['artifacts']['notes']['bucket']}/runs/"}
    words = [places.get(word, word) for word in WITH_JSON[name]]
    code, out, err = run(*words, "--json")
    assert (code, err, out.count("\n"), out[-1]) == (1 if name == "schema --check" else 0, "", 1, "\n")
    value = json.loads(out)
    assert isinstance(value, dict)
    if name not in {"put", "get", "show", "verify"}:
        return
    further = {"get": {"path"}, "verify": {"ok"}}.get(name, set())
    assert all(set(each) == ARTIFACT | further for each in value["artifacts"])
    sizes = {each["name"]: each["size"] for each in value["artifacts"]}
    assert sizes == ({"tree": SUM} if name == "put" else {"tree": SUM, "notes": 11})
    for each in value["artifacts"]:
        assert name == "put" or each["pointer"] == output["artifacts"][each["name"]]


def test_local_says_where_it_is_in_json() -> None:
    """One object on one line as well, before it goes on."""
    process = subprocess.Popen([sys.executable, "-m", "stepout", "local", "--json"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        told = json.loads(process.stdout.readline())
    finally:
        process.terminate()
        rest, _ = process.communicate(timeout=300)
    assert (set(told), rest) == ({"endpoint", "environ"}, "")


def test_what_put_says_in_json_is_a_document_for_get(run: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    """The pointer in it is whole: a directory's size is said beside it, not in it."""
    out = run("put", "tree", "in", "--json")[1]
    code, _, err = run("get", out, "-o", "back")
    assert (code, err) == (0, "")
    assert {name: (tmp_path / "back" / name).read_bytes() for name in FILES} == FILES


@pytest.mark.parametrize(
    ("words", "place"), [(("show",), 2), (("verify",), 2), (("get", "-o", "out/"), 2)], ids=["show", "verify", "get"]
)
def test_a_table_has_the_size_of_a_directorys_files(
    run: Callable[..., tuple[int, str, str]], output: dict[str, Any], words: tuple[str, ...], place: int
) -> None:
    """Not that of its listing; a file's stays what it is."""
    code, out, _ = run(words[0], json.dumps(output), *words[1:])
    assert code == 0
    rows = {line.split()[0]: " ".join(line.split()[1 : 1 + place]) for line in out.splitlines()[1:]}
    assert rows == {"tree": "3.9 KiB", "notes": "11 B"}


@pytest.mark.parametrize("said", [None, -1, True, "4000", 1.5], ids=str)
def test_the_size_of_a_directory_is_measured_where_it_is_read(
    run: Callable[..., tuple[int, str, str]], output: dict[str, Any], said: object
) -> None:
    """What its pointer does not say ``show`` does not know, and ``get`` and ``verify`` count."""
    annotations = {} if said is None else {"annotations": {"bytes": said}}
    tree = {name: value for name, value in output["artifacts"]["tree"].items() if name != "annotations"}
    document = json.dumps({**output, "artifacts": {"tree": {**tree, **annotations}}})
    assert json.loads(run("show", document, "--json")[1])["artifacts"][0]["size"] is None
    assert run("show", document)[1].splitlines()[1].split()[:2] == ["tree", "?"]
    for words in (("verify", document), ("get", document, "-o", "out/")):
        assert json.loads(run(*words, "--json")[1])["artifacts"][0]["size"] == SUM


def test_json_and_bytes_on_standard_output_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    """``get --json -o -`` is a usage error that says so, and nothing is read or printed."""
    code = main(["get", "{}", "--json", "-o", "-", "--allow-any"])
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert "--json and -o - exclude each other" in err

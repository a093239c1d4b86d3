"""What a person at a terminal sees of long transfers, and what is seen of them anywhere else: nothing."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from support.terminal import PseudoTerminal, pseudo_terminal

from stepout import ArtifactManager
from stepout.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stepout.local import LocalAws

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")

SIZE = 9 << 20
BIG = os.urandom(SIZE)
TOTAL = "9.0 MiB of 9.0 MiB"


@pytest.fixture(scope="module")
def documents(local_aws: LocalAws, bucket: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Outputs that are there already: of a large file, of a directory of two files, of a small file."""
    folder = tmp_path_factory.mktemp("tree")
    (folder / "a.bin").write_bytes(BIG[: SIZE // 2])
    (folder / "b.bin").write_bytes(BIG[SIZE // 2 :])
    manager = ArtifactManager(bucket, "runs", client=local_aws.client("s3"), profile="compatible")
    made = {
        "big": manager.put_bytes("big", BIG),
        "tree": manager.put_directory("tree", folder),
        "small": manager.put_bytes("small", b"small"),
    }
    texts = {name: {"stepout": "output/1", "artifacts": {name: each.to_dict()}} for name, each in made.items()}
    return {name: json.dumps(text) for name, text in texts.items()}


@pytest.fixture
def place(local_aws: LocalAws, bucket: str) -> dict[str, str]:
    """The environment of a command that may write to the bucket and read from it."""
    return {
        **local_aws.environ,
        "STEPOUT_ALLOW": f"s3://{bucket}/",
        "STEPOUT_BUCKET": bucket,
        "TERM": "xterm",
    }


@pytest.fixture
def at_terminal(
    place: dict[str, str],
    documents: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: pytest.CaptureFixture[bytes],
    tmp_path: Path,
) -> Callable[..., tuple[int, str, PseudoTerminal]]:
    """Run a command in this process, standard error a terminal: exit code, standard output, the terminal."""
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "big.bin").write_bytes(BIG)
    (tmp_path / "small.bin").write_bytes(b"small")
    (tmp_path / "in").mkdir()
    for name, part in (("a", BIG[: SIZE // 2]), ("b", BIG[SIZE // 2 :])):
        (tmp_path / "in" / name).write_bytes(part)

    def command(*words: str, columns: int = 100) -> tuple[int, str, PseudoTerminal]:
        filled = [documents.get(word.removeprefix("DOC:"), word) if word[:4] == "DOC:" else word for word in words]
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(BIG)))
        with pseudo_terminal(columns) as terminal, monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", terminal.stream)
            code = main(filled)
        return code, capsysbinary.readouterr().out.decode("latin-1"), terminal

    return command


LONG = [
    pytest.param(("put", "big", "big.bin"), "big", TOTAL, id="put"),
    pytest.param(("put", "tree", "in"), "tree", TOTAL, id="put a folder"),
    pytest.param(("put", "stream", "-"), "stream", "9.0 MiB", id="put standard input"),
    pytest.param(("get", "DOC:big", "-o", "back.bin"), "big", TOTAL, id="get"),
    pytest.param(("get", "DOC:tree", "-o", "back"), "tree", TOTAL, id="get a folder"),
    pytest.param(("verify", "DOC:big"), "big", TOTAL, id="verify"),
    pytest.param(("verify", "DOC:tree"), "tree", TOTAL, id="verify a folder"),
    pytest.param(("cat", "DOC:big"), "big", TOTAL, id="cat"),
]


@pytest.mark.parametrize(("words", "name", "end"), LONG)
def test_a_long_transfer_is_drawn_on_a_terminal(
    at_terminal: Callable[..., tuple[int, str, PseudoTerminal]], words: tuple[str, ...], name: str, end: str
) -> None:
    """One line under the artifact's name, a folder's files together, redrawn in place and ended."""
    code, _, terminal = at_terminal(*words)
    assert code == 0
    assert {line.split()[0] for line in terminal.drawn} == {name}
    assert terminal.drawn[-1].endswith(end)
    assert terminal.text.endswith("\r\n")
    assert terminal.text.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        ("put", "big", "big.bin", "--json"),
        ("put", "big", "big.bin", "--quiet"),
        ("put", "small", "small.bin"),
        ("get", "DOC:big", "-o", "back.bin", "--json"),
        ("get", "DOC:big", "-o", "back.bin", "-q"),
        ("get", "DOC:small", "-o", "back.bin"),
        ("verify", "DOC:big", "--json"),
        ("verify", "DOC:big", "--quiet"),
        ("cat", "DOC:big", "--quiet"),
    ],
    ids=" ".join,
)
def test_nothing_is_drawn_for_machines_and_of_small_things(
    at_terminal: Callable[..., tuple[int, str, PseudoTerminal]], words: tuple[str, ...]
) -> None:
    """``--json`` and ``--quiet`` keep the terminal as it is, and one request needs no bar."""
    code, _, terminal = at_terminal(*words)
    assert (code, terminal.text) == (0, "")


def test_nothing_is_drawn_where_no_terminal_is(
    at_terminal: Callable[..., tuple[int, str, PseudoTerminal]],
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    """Logs stay clean, and so does a terminal that cannot take a line back."""
    assert main(["put", "big", "big.bin"]) == 0
    assert capsysbinary.readouterr().err == b""
    monkeypatch.setenv("TERM", "dumb")
    assert at_terminal("put", "big", "big.bin")[2].text == ""


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
def test_a_line_is_never_wider_than_the_terminal(
    at_terminal: Callable[..., tuple[int, str, PseudoTerminal]], columns: int
) -> None:
    """A line that wrapped would be repeated with each redrawing."""
    name = "a_rather_long_name_of_an_artifact_" * 2
    code, _, terminal = at_terminal("put", name, "big.bin", columns=columns)
    assert code == 0
    assert terminal.drawn
    assert max(map(len, terminal.drawn)) < columns
    assert ("[" in terminal.drawn[-1]) == (columns >= 80)


def test_an_error_has_a_line_of_its_own(
    at_terminal: Callable[..., tuple[int, str, PseudoTerminal]], local_aws: LocalAws, documents: dict[str, str]
) -> None:
    """A bar that will not reach its end makes room for what went wrong."""
    document: dict[str, Any] = json.loads(documents["big"])
    pointer = document["artifacts"]["big"]
    client = local_aws.client("s3")
    other = {name: value for name, value in pointer.items() if name not in {"etag", "versionId"}}
    other["key"] += ".other"
    client.put_object(Bucket=pointer["bucket"], Key=other["key"], Body=b"x" + BIG[1:])
    code, _, terminal = at_terminal("verify", json.dumps({**document, "artifacts": {"big": other}}))
    assert code == 1
    last = terminal.text.split("\r\n")[-2]
    assert last.startswith("stepout: big: ")


@pytest.mark.parametrize("words", [[], ["--quiet"]], ids=["drawn", "quiet"])
def test_run_draws_its_outputs(place: dict[str, str], tmp_path: Path, words: list[str]) -> None:
    """What a command leaves is sent with a bar each, unless ``--quiet`` says otherwise; the report stays as it is."""
    script = "dd if=/dev/zero of=big.bin bs=1048576 count=9 2>/dev/null; mkdir t; cp big.bin t/x; echo done"
    command = [sys.executable, "-m", "stepout", "run", *words, "--output", "big=big.bin", "--dir", "tree=t"]
    with pseudo_terminal(100) as terminal:
        done = subprocess.run(
            [*command, "--", "sh", "-c", script],
            stdout=subprocess.PIPE,
            stderr=terminal.stream,
            cwd=tmp_path,
            env={**os.environ, **place},
            check=False,
            timeout=300,
        )
    assert done.returncode == 0
    printed, report = done.stdout.decode().splitlines()
    assert (printed, sorted(json.loads(report)["artifacts"])) == ("done", ["big", "tree"])
    ended = [line for line in terminal.text.replace("\r\x1b[K", "\r\n").split("\r\n") if TOTAL in line]
    assert [line.split()[0] for line in ended] == ([] if words else ["big", "tree"])
    assert not words or terminal.text == ""

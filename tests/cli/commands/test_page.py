"""``stepout page``, on the local AWS: documents, an execution, what may be read, and what it may cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.ministack import start_execution, wait_execution

import stepout
from stepout.cli.commands.page import _bytes
from stepout.testing import RecordingTarget

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepout.local import LocalAws

    Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def document(local_aws: LocalAws, bucket: str, run: Run) -> dict[str, Any]:
    """What a task has reported, in output.json."""
    import pyarrow as pa

    assert run("--version")[0] == 0  # which is in the folder, and has the environment
    client = local_aws.client("s3")
    manager = stepout.ArtifactManager(bucket=bucket, prefix="runs", client=client, profile="compatible")
    with stepout.open_task(targets=(target := RecordingTarget()), artifacts=manager) as task:
        task.artifacts.put_table("scores", pa.table({"id": range(500), "score": [n / 7 for n in range(500)]}))
        task.artifacts.put_json("settings", {"level": 3})
    found: dict[str, Any] = target.successes[0]
    Path("output.json").write_text(json.dumps(found), encoding="utf-8")
    return found


@pytest.mark.usefixtures("document")
def test_a_document_becomes_a_page(run: Run) -> None:
    """One line on standard error says where it is and what it has cost; the page shows what is inside, verified."""
    code, out, err = run("page", "output.json", "-o", "run.html")
    assert (code, out) == (0, "")
    assert "run.html: " in err
    assert "read in" in err
    page = Path("run.html").read_text(encoding="utf-8")
    for said in ("500 rows", "score", "71.28", "Verified", "&#34;level&#34;: 3", "histogram"):
        assert said in page
    assert run("page", "output.json", "-o", "-", "--quiet")[1].startswith("<!DOCTYPE html>")


@pytest.mark.usefixtures("document")
def test_what_is_not_allowed_or_too_dear_stays_unread(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page is made in any case, and says what would show more."""
    assert run("page", "output.json", "-o", "dear.html", "--budget-requests", "0")[0] == 0
    dear = Path("dear.html").read_text(encoding="utf-8")
    assert "--budget-requests" in dear
    assert "71.28" not in dear
    assert run("page", "output.json", "-o", "elsewhere.html", "--allow", "s3://elsewhere/")[0] == 0
    assert "Stepout.NotAllowed" in Path("elsewhere.html").read_text(encoding="utf-8")
    monkeypatch.delenv("STEPOUT_ALLOW")
    assert run("page", "output.json", "-o", "blind.html")[0] == 0
    assert "pass --allow" in Path("blind.html").read_text(encoding="utf-8")


def test_an_execution_becomes_a_page_by_its_arn(local_aws: LocalAws, run: Run) -> None:
    """Which state failed, by what name, and why, is on the first screen."""
    states = {
        "Begin": {"Type": "Pass", "Next": "GiveUp"},
        "GiveUp": {"Type": "Fail", "Error": "Demo.TooDark", "Cause": "the sun had set"},
    }
    arn = start_execution(local_aws, states, start_at="Begin")
    wait_execution(local_aws, arn)
    assert run("page", arn, "-o", "run.html")[0] == 0
    page = Path("run.html").read_text(encoding="utf-8")
    first = page[page.index('class="first"') : page.index('id="timeline"')]
    for said in ("Failed", "GiveUp", "Demo.TooDark", "the sun had set"):
        assert said in first
    assert "Begin" in page


def test_what_is_no_source_is_said(run: Run) -> None:
    """A file that is missing, an ARN of something else, a size that is none: each is named, and nothing is written."""
    assert "nowhere.json" in run("page", "nowhere.json", "-o", "run.html")[2]
    machine = "arn:aws:states:eu-west-1:123456789012:stateMachine:Nightly"
    code, _, err = run("page", machine, "-o", "run.html")
    assert code == 2
    assert "execution" in err
    assert run("page", "output.json", "-o", "run.html", "--budget-bytes", "many")[0] == 2
    assert run("page", "output.json")[0] == 2
    assert not Path("run.html").exists()


def test_sizes_are_read_as_people_write_them() -> None:
    """Bytes alone, or a unit of 1,024."""
    assert [_bytes(text) for text in ("512", "64KiB", "3MiB", "1gib")] == [512, 65_536, 3 << 20, 1 << 30]

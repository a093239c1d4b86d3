"""Clean-up of what real tasks leave: each keeps its record by itself, and nothing that somebody needs goes."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from support.left_behind import LeftBehind, execution
from support.seaweed import ADMIN

import stepout
from stepout.artifacts import ArtifactManager
from stepout.artifacts.s3.inventory import Inventory
from stepout.schemas import RunIdentity
from stepout.testing import RecordingTarget

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.seaweed import Seaweed
    from support.sfn_strict import StrictStepFunctions

    from stepout.clean_up import CleanUp

    Make = Callable[..., CleanUp]

DONE, FAILED, RUNNING = execution("done"), execution("failed"), execution("running")


@pytest.fixture(autouse=True)
def _executions(sfn_strict: StrictStepFunctions) -> None:
    sfn_strict.executions |= {DONE: "SUCCEEDED", FAILED: "FAILED", RUNNING: "RUNNING"}


@pytest.mark.parametrize(("prefix", "versioned"), [("", False), ("läufe/" + "本" * 80, True)])
def test_nothing_goes_that_a_committed_task_wrote(
    left: LeftBehind, clean_up: Make, tmp_path: Path, prefix: str, versioned: bool
) -> None:
    """All kinds of artifacts, spilled documents, datasets that were appended and merged later, a job's own document."""
    import pyarrow as pa

    status = "Enabled" if versioned else "Suspended"
    left.client.put_bucket_versioning(Bucket=left.bucket, VersioningConfiguration={"Status": status})
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "größe").write_bytes(bytes(9 << 20))
    first, table = RecordingTarget(), pa.table({"day": ["a", "b"], "n": [1, 2]})
    with left.open_task(DONE, prefix, targets=first) as task:
        task.artifacts.put_directory("folder", tmp_path)
        task.artifacts.put_dataset("rows", table, partition_by=["day"])
        task.artifacts.put_bytes("many", bytes(9 << 20), blocks="sha256")
        task.artifacts.put_document("my-own", {"text": "x" * 300_000})
        stepout.write_item_reader_manifest(task.artifacts, "items", [{"n": 1}])
    read = stepout.resolve_output(first.successes[0], allow=[f"s3://{left.bucket}/"], client=left.client)
    for budget in (60_000, 1_500, 900):
        with left.open_task(DONE, prefix, budget=budget) as task:
            task.artifacts.put_dataset("rows", table, partition_by=["day"], append_to=read["rows"])
            task.artifacts.merge_datasets("merged", [read["rows"]])
            task.result["text"] = "x" * 2_000
    before = left.versions()
    for below in (prefix, ""):
        removal = clean_up(below, delete=True)
        assert list(removal.leftovers()) == []
        assert removal.tally.young + removal.tally.named + removal.tally.foreign == removal.tally.seen
    assert left.versions() == before


def test_a_file_of_a_directory_that_is_called_as_a_record_is_none(
    left: LeftBehind, clean_up: Make, tmp_path: Path
) -> None:
    """It is no record that cannot be read, which would keep everything beside it."""
    (tmp_path / "_output.json").write_text("[1, 2")
    with left.open_task(DONE) as task:
        task.artifacts.put_directory("folder", tmp_path)
    before, failed = left.versions(), left.task(FAILED)
    failed.put("lost", "x")
    list(clean_up(delete=True).leftovers())
    assert left.versions() == before


def _half_sent(left: LeftBehind, arn: str, root: Path, prefix: str = "runs") -> str:
    """A task that fails after it has sent the files of a directory; returns where they are."""
    with pytest.raises(ZeroDivisionError), left.open_task(arn, prefix) as task:  # noqa: PT012 - what happens in it
        task.artifacts.put_directory("d", root)
        raise ZeroDivisionError
    url: str = task.artifacts.url
    return url


@pytest.mark.parametrize(
    ("arn", "prefix", "record"),
    [(RUNNING, "runs", True), (FAILED, "runs", True), (FAILED, "", True), (FAILED, "runs", False)],
)
def test_what_a_later_attempt_has_resumed_stays(  # noqa: PLR0913, PLR0917 - fixtures, and what differs
    left: LeftBehind,
    clean_up: Make,
    sfn_strict: StrictStepFunctions,
    tmp_path: Path,
    arn: str,
    prefix: str,
    record: bool,
) -> None:
    """Of another execution, under a prefix above, or by a task without a record: whatever clean-up does meanwhile."""
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    earlier = _half_sent(left, FAILED, tmp_path, "runs")
    target = RecordingTarget()
    with left.open_task(arn, prefix, commit_record=record, targets=target) as task:
        task.artifacts.put_directory("d", tmp_path, resume_from=earlier)
        if arn == RUNNING:
            list(clean_up(delete=True).leftovers())
    sfn_strict.executions[arn] = "SUCCEEDED"
    for below in ("runs/", ""):
        list(clean_up(below, delete=True).leftovers())
    read = stepout.resolve_output(target.successes[0], allow=[f"s3://{left.bucket}/"], client=left.client)
    assert [file.read_bytes() for _, file in read["d"].iter_files()] == [b"a", b"b"]


def test_a_later_attempt_of_the_same_execution_sends_nothing_again(left: LeftBehind, tmp_path: Path) -> None:
    """Its execution runs until the record is there, so the files are named where they lie."""
    (tmp_path / "a").write_text("a")
    earlier = _half_sent(left, RUNNING, tmp_path)
    with left.open_task(RUNNING) as task:
        task.artifacts.put_directory("d", tmp_path, resume_from=earlier)
    (file,) = (key for key in left.stored() if key.endswith("/d/a"))
    assert earlier.endswith(file.partition("/d/a")[0].rpartition("/")[2] + "/")


def test_a_record_lasts_as_long_as_what_it_names(left: LeftBehind) -> None:
    """The rule that removes a short-lived record would leave its longest-lived artifact to clean-up."""
    run = RunIdentity(execution=DONE, state="S", nonce="ab")
    common: dict[str, Any] = {"client": left.client, "run": run, "profile": "compatible", "commit_record": True}
    task = ArtifactManager(left.bucket, "runs", keep="1d", **common)
    model = task.put("model", b"1", keep="365d")
    task.put("scratch", b"2", keep="12h")
    spilled = task.put_document("stepout-output", {"stepout": "output/1", "artifacts": {"model": model.to_dict()}})
    record = task.put_record({"stepout": "output/1", "manifest": spilled.to_dict()})
    for pointer in (record, spilled):
        tags = left.client.get_object_tagging(Bucket=left.bucket, Key=pointer.key)["TagSet"]
        assert tags == [{"Key": "stepout-keep", "Value": "365d"}]
    other = ArtifactManager(left.bucket, "other", keep="1d", **common)
    other.put("model", b"1", expires_at="2099-01-01T00:00:00Z")
    with pytest.raises(ValueError, match="expires"):
        other.put("wrong", b"1", expires_at="2199")
    untagged = other.put_record({"stepout": "output/1", "artifacts": {}})
    assert left.client.get_object_tagging(Bucket=left.bucket, Key=untagged.key)["TagSet"] == []
    assert untagged.expires_at == "2099-01-01T00:00:00Z"


@pytest.fixture
def other_bucket(seaweed_client: Any) -> Iterator[str]:
    """A second bucket."""
    name = f"test-{secrets.token_hex(8)}"
    seaweed_client.create_bucket(Bucket=name)
    yield name
    for key in LeftBehind(seaweed_client, name).stored():
        seaweed_client.delete_object(Bucket=name, Key=key)
    seaweed_client.delete_bucket(Bucket=name)


def test_a_copy_of_a_bucket_keeps_what_its_records_name(left: LeftBehind, clean_up: Make, other_bucket: str) -> None:
    """A copy has versions of its own, and records that name the original's."""
    left.client.put_bucket_versioning(Bucket=left.bucket, VersioningConfiguration={"Status": "Enabled"})
    with left.open_task(DONE) as task:
        assert task.artifacts.put("features", b"1").version_id
    for key in left.stored():
        left.client.copy_object(Bucket=other_bucket, Key=key, CopySource={"Bucket": left.bucket, "Key": key})
    copies = LeftBehind(left.client, other_bucket)
    before = copies.stored()
    assert len(before) == 2
    assert list(clean_up(bucket=other_bucket, delete=True).leftovers()) == []
    assert copies.stored() == before


JOB = """
import stepout, sys
bucket, prefix = sys.argv[1:]
with stepout.open_task(bucket=bucket or None, prefix=prefix or None) as task:
    task.artifacts.put("features", b"1")
if prefix == "failed":
    raise SystemExit(7)
"""


@pytest.fixture
def run(seaweed: Seaweed, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """``stepout run`` of a job that opens a task; returns what was reported."""

    def start(*words: str, options: tuple[str, ...] = (), **variables: str) -> dict[str, Any]:
        report = tmp_path / "report.json"
        environ = {
            **os.environ,
            "AWS_ENDPOINT_URL_S3": seaweed.endpoint,
            "AWS_ACCESS_KEY_ID": ADMIN.access_key,
            "AWS_SECRET_ACCESS_KEY": ADMIN.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "STEPOUT_S3_PROFILE": "compatible",
            "STEPOUT_EXECUTION": DONE,
            "STEPOUT_TARGETS": report.as_uri(),
            **variables,
        }
        command = [sys.executable, "-m", "stepout", "run", *options, "--", sys.executable, "-c", JOB, *words]
        subprocess.run(command, env=environ, check=False, timeout=300)
        found: dict[str, Any] = json.loads(report.read_bytes())
        return found

    return start


@pytest.mark.parametrize("place", ["parents", "none", "other"])
def test_what_a_commands_task_writes_elsewhere_is_named(
    left: LeftBehind, clean_up: Make, run: Callable[..., dict[str, Any]], place: str
) -> None:
    """Where stepout run has no bucket, or another prefix, the command's task keeps a record of its own."""
    variables = {} if place == "none" else {"STEPOUT_BUCKET": left.bucket, "STEPOUT_PREFIX": "runs"}
    words = {"parents": ("", ""), "none": (left.bucket, "runs"), "other": (left.bucket, "other")}[place]
    report = run(*words, **variables)
    key = report["artifacts"]["features"]["key"]
    for below in ("runs/", "other/"):
        list(clean_up(below, delete=True).leftovers())
    assert key in left.stored()


def test_what_a_failed_command_was_asked_to_keep_stays(
    left: LeftBehind, clean_up: Make, run: Callable[..., dict[str, Any]]
) -> None:
    """A failed task has no record; ``--outputs-on-failure`` writes what names its outputs."""
    words = ("", "failed")
    report = run(
        *words,
        options=("--outputs-on-failure",),
        STEPOUT_BUCKET=left.bucket,
        STEPOUT_PREFIX="failed",
        STEPOUT_EXECUTION=FAILED,
    )
    assert report["error"]
    before = left.stored()
    assert any(key.endswith("/stepout-kept.json") for key in before)
    assert list(clean_up("failed/", delete=True).leftovers()) == []
    assert left.stored() == before


def test_an_upload_of_an_execution_that_was_started_is_not_its_parents(left: LeftBehind, clean_up: Make) -> None:
    """A child that runs on when its parent is over has nothing in its folder yet but the upload."""
    with left.open_task(DONE) as task:
        task.artifacts.put("features", b"1")
    child = RunIdentity(execution=RUNNING, parent_execution=DONE, state="S", nonce="cd")
    manager = ArtifactManager(
        left.bucket, "runs", client=left.client, run=child, profile="compatible", commit_record=True
    )
    key = f"{manager.url.removeprefix(f's3://{left.bucket}/')}big"
    left.client.create_multipart_upload(Bucket=left.bucket, Key=key)
    (found,) = clean_up(delete=True).leftovers()
    assert (found.kind, found.removed) == ("unknown", False)
    assert len(left.client.list_multipart_uploads(Bucket=left.bucket).get("Uploads", [])) == 1


def test_a_record_that_the_server_leaves_out_of_a_page_is_found(
    left: LeftBehind, clean_up: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SeaweedFS passes over the versions in a folder ``M-x`` where a page ends within ``M``."""
    pages = Inventory.versions
    monkeypatch.setattr(Inventory, "versions", lambda self, prefix, most=3: pages(self, prefix, most=most))
    for _ in range(3):
        half = left.task(DONE).put("half", b"1")
        later = left.task(execution("done", "Segment-x"))
        later.put("own", b"2")
        left.commit(later, artifacts={**later.pointers, "half": half})
    before = left.stored()
    assert list(clean_up(delete=True).leftovers()) == []
    assert left.stored() == before


def test_an_execution_that_ends_later_than_its_siblings_is_looked_through_then(
    left: LeftBehind, clean_up: Make, sfn_strict: StrictStepFunctions
) -> None:
    """The folder that they share was read before, when it still ran: its later records count."""
    one, two = execution("one", "Tile"), execution("two", "Tile")
    sfn_strict.executions |= {one: "SUCCEEDED", two: "SUCCEEDED"}
    lost = left.task(one, parent=DONE).put("lost", b"1")
    removal = clean_up(delete=True)
    assert [each.removed for each in removal.leftovers()] == [True]
    first, second = left.task(two, parent=DONE), left.task(two, parent=DONE)
    half = first.put("half", b"2")
    left.commit(second, artifacts={"half": half})
    assert list(removal.leftovers()) == []
    assert half.key in left.stored()
    assert lost.key not in left.stored()


def test_what_a_task_of_another_prefix_adopted_stays_where_both_are_looked_at(left: LeftBehind, clean_up: Make) -> None:
    """Its record does not lie below the prefix of the task that wrote the object."""
    with pytest.raises(ZeroDivisionError), left.open_task(FAILED, "runs/one") as failed:  # noqa: PT012 - as above
        half = failed.artifacts.put("half", b"1")
        raise ZeroDivisionError
    with left.open_task(DONE, "runs/two") as task:
        task.artifacts.adopt("half", half.url, verify="read")
    assert list(clean_up(delete=True).leftovers()) == []
    assert half.key in left.stored()

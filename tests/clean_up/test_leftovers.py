"""What a clean-up lists and removes, on a real S3 server and a strict Step Functions."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from support.left_behind import execution, keys_of

from stepout.artifacts.directory_listing import ListingLines
from stepout.artifacts.listing import Entry
from stepout.artifacts.media_types import DIRECTORY
from stepout.schemas.errors import ConfigurationError
from stepout.schemas.progress import TaskProgress, progress_key
from stepout.schemas.text.json_text import dump_json

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.left_behind import LeftBehind
    from support.sfn_strict import StrictStepFunctions

    from stepout.clean_up import CleanUp, Leftover

    Make = Callable[..., CleanUp]

DONE, FAILED, RUNNING = execution("done"), execution("failed"), execution("running")
BIG = bytes(range(256)) * 2_000  # more than one block
MANY = bytes(9 << 20)  # with SHA-256, its list of blocks is an object of its own


@pytest.fixture(autouse=True)
def _executions(sfn_strict: StrictStepFunctions) -> None:
    sfn_strict.executions |= {DONE: "SUCCEEDED", FAILED: "FAILED", RUNNING: "RUNNING"}


def _kinds(found: list[Leftover], left: LeftBehind) -> dict[str, str]:
    return {each.url.removeprefix(f"s3://{left.bucket}/"): each.kind for each in found}


def test_what_a_failed_task_left_is_listed_and_then_removed(left: LeftBehind, clean_up: Make) -> None:
    """Without --delete nothing goes; with it what no record names does, and the committed task's objects stay."""
    committed, failed = left.task(DONE), left.task(FAILED)
    committed.put("features", {"a": 1})
    left.commit(committed)
    failed.put("half", b"12345")
    before = left.stored()
    found = list(clean_up().leftovers())
    assert _kinds(found, left) == dict.fromkeys(keys_of(failed.pointers), "leftover")
    (leftover,) = found
    assert (leftover.size, leftover.execution, leftover.removed) == (5, FAILED, False)
    assert leftover.why == "no record names it; its execution is over (FAILED)"
    assert left.stored() == before
    removal = clean_up(delete=True)
    assert [each.removed for each in removal.leftovers()] == [True]
    assert left.stored() == before - keys_of(failed.pointers)
    assert (removal.tally.seen, removal.tally.removed, removal.tally.freed) == (3, 1, 5)
    assert list(clean_up(delete=True).leftovers()) == []


def test_nothing_goes_that_does_not_say_that_a_recorded_task_wrote_it(left: LeftBehind, clean_up: Make) -> None:
    """Others' objects, adopted ones, objects of tasks without a record and copies with their metadata stay."""
    failed = left.task(FAILED)
    pointer = failed.put("half", b"1")
    source = {"Bucket": left.bucket, "Key": pointer.key}
    copies = ["runs/archive/half", "runs/Segment/failed/S/0-zzzz/half"]
    for key in copies:
        left.client.copy_object(Bucket=left.bucket, Key=key, CopySource=source)
    left.client.put_object(Bucket=left.bucket, Key="runs/theirs", Body=b"1")
    left.client.put_object(
        Bucket=left.bucket, Key="runs/odd", Body=b"1", Metadata={"stepout-record": "_output.json", "stepout-prefix": ""}
    )
    left.client.delete_object(Bucket=left.bucket, Key=pointer.key)
    removal = clean_up(delete=True)
    assert list(removal.leftovers()) == []
    assert left.stored() == {*copies, "runs/theirs", "runs/odd"}
    assert removal.tally.foreign == 4


def test_records_and_undelivered_documents_are_never_touched(left: LeftBehind, clean_up: Make) -> None:
    """They stay though their own metadata says whose they are; what an undelivered document names stays too."""
    lost = left.task(FAILED)
    pointer = lost.put("features", b"1")
    lost.put_document("stepout-undelivered", {"stepout": "output/1", "artifacts": {"features": pointer.to_dict()}})
    before = left.stored()
    assert list(clean_up(delete=True).leftovers()) == []
    assert left.stored() == before


def test_what_a_record_leads_to_is_kept(left: LeftBehind, clean_up: Make, tmp_path: Path) -> None:
    """Files of directories, datasets and their manifests, lists of blocks, pointers in a result: all are named."""
    import pyarrow as pa

    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    (folder / "sub" / "b.bin").write_bytes(BIG)
    task = left.task(DONE)
    task.put_directory("folder", folder)
    task.put_dataset("data", pa.table({"day": ["1", "2"], "n": [1, 2]}), partition_by=["day"])
    task.put_bytes("many", MANY, blocks="sha256")
    nested = left.task(DONE)
    inner = nested.put("inner", b"named by a result")
    left.commit(task, result={"deep": [{"pointer": inner.to_dict()}]})
    assert any(key.rpartition("/")[2].startswith("blocks-") for key in left.stored())
    before = left.stored()
    removal = clean_up(delete=True)
    assert list(removal.leftovers()) == []
    assert left.stored() == before
    assert removal.tally.foreign == 0


def test_the_files_of_a_listing_of_lines_are_kept(left: LeftBehind, clean_up: Make) -> None:
    """What directory/2 lists is named, wherever the file lies."""
    other, task = left.task(FAILED), left.task(DONE)
    files = [Entry(f"{n}.txt", other.put(f"f{n}", f"file {n}".encode())) for n in range(3)]
    other.put("unlisted", b"1")
    lines = ListingLines({"bucket": left.bucket}, "runs/elsewhere")
    data = lines.begin() + b"".join(map(lines.add, files)) + lines.end()
    task.put_bytes("folder", data, media_type=DIRECTORY, annotations=lines.annotations(), blocks="none")
    left.commit(task)
    found = clean_up(delete=True).leftovers()
    assert _kinds(list(found), left) == {other.pointers["unlisted"].key: "leftover"}


def test_spilled_documents_are_read(left: LeftBehind, clean_up: Make) -> None:
    """A result or a whole output that was moved into the store names what it names."""
    spilled, whole = left.task(DONE), left.task(DONE)
    inner = spilled.put("inner", b"1")
    left.commit(spilled, artifacts={}, result=spilled.put_document("stepout-result", {"at": inner.to_dict()}))
    moved = whole.put("moved", b"2")
    document = {"stepout": "output/1", "artifacts": {"moved": moved.to_dict()}}
    left.commit(whole, artifacts=None, manifest=whole.put_document("stepout-output", document))
    before = left.stored()
    assert list(clean_up(delete=True).leftovers()) == []
    assert left.stored() == before


def test_records_are_read_below_the_whole_prefix(left: LeftBehind, clean_up: Make) -> None:
    """A record of another run names an object of the folder that the clean-up was narrowed to."""
    failed, resumed = left.task(FAILED), left.task(execution("other", "Another"))
    pointer = failed.put("reused", b"1")
    failed.put("rest", b"2")
    left.commit(resumed, artifacts={"features": pointer})
    found = list(clean_up("runs/Segment/failed/", delete=True).leftovers())
    assert _kinds(found, left) == {failed.pointers["rest"].key: "leftover"}


def test_one_record_that_cannot_be_read_keeps_everything_below_its_prefix(left: LeftBehind, clean_up: Make) -> None:
    """It may name anything, so all is only listed, as unknown; another prefix is not touched by that."""
    failed, broken = left.task(FAILED), left.task(DONE)
    failed.put("half", b"1")
    record = left.put_record(broken, b'{"stepout": "output/9"}')
    before = left.stored()
    removal = clean_up(delete=True)
    (found,) = removal.leftovers()
    assert (found.kind, found.removed) == ("unknown", False)
    assert found.why.startswith("a record could not be read, and may name it: ")
    assert (removal.tally.hindered, set(removal.unreadable)) == (1, {record})
    assert left.stored() == before


@pytest.mark.parametrize("damage", ["gone", "changed", "no listing"])
def test_a_listing_that_cannot_be_read_keeps_everything(
    left: LeftBehind, clean_up: Make, tmp_path: Path, damage: str
) -> None:
    """A record whose directory's listing is missing, or other bytes, names nobody knows what."""
    (tmp_path / "a.txt").write_text("a")
    task = left.task(DONE)
    pointer = task.put_directory("folder", tmp_path)
    if damage == "no listing":
        task.put_bytes("other", b"not a listing", media_type=DIRECTORY)
    left.commit(task)
    if damage == "gone":
        left.client.delete_object(Bucket=left.bucket, Key=pointer.key)
    if damage == "changed":
        left.client.put_object(Bucket=left.bucket, Key=pointer.key, Body=b"{}")
    left.task(FAILED).put("half", b"1")
    before = left.stored()
    removal = clean_up(delete=True)
    assert "unknown" in _kinds(list(removal.leftovers()), left).values()
    assert removal.tally.removed == 0
    assert left.stored() == before


def test_a_listing_that_has_expired_and_gone_hinders_nobody(left: LeftBehind, clean_up: Make, tmp_path: Path) -> None:
    """Its files were to go with it, as its pointer says; so what is left of them is left over."""
    (tmp_path / "a.txt").write_text("a")
    task = left.task(DONE)
    pointer = task.put_directory("folder", tmp_path, expires_at="2026-01-01T00:00:00Z")
    left.commit(task)
    left.client.delete_object(Bucket=left.bucket, Key=pointer.key)
    (found,) = clean_up(delete=True).leftovers()
    assert (found.url.endswith("/a.txt"), found.removed) == (True, True)


def test_versions_that_no_record_names_go_and_named_ones_stay(left: LeftBehind, clean_up: Make) -> None:
    """A pointer with a version keeps that version alone."""
    left.client.put_bucket_versioning(Bucket=left.bucket, VersioningConfiguration={"Status": "Enabled"})
    kept = left.task(DONE, layout="fixed", mode="overwrite").put("features", b"first")
    task = left.task(DONE, layout="fixed", mode="overwrite")
    task.put("features", b"second")
    left.commit(task, artifacts={"features": kept})
    assert kept.version_id
    (found,) = clean_up(delete=True).leftovers()
    assert (found.url, found.version_id == task.pointers["features"].version_id) == (kept.url, True)
    assert {version for key, version in left.versions() if key == kept.key} == {kept.version_id}


def test_a_pointer_without_a_version_keeps_all_versions(left: LeftBehind, clean_up: Make) -> None:
    """It was made before the bucket kept versions, and nobody knows which it means."""
    pointer = left.task(DONE, layout="fixed").put("features", b"first")
    assert pointer.version_id is None
    left.client.put_bucket_versioning(Bucket=left.bucket, VersioningConfiguration={"Status": "Enabled"})
    task = left.task(DONE, layout="fixed", mode="overwrite")
    task.put("features", b"second")
    left.commit(task, artifacts={"features": pointer})
    assert list(clean_up(delete=True).leftovers()) == []


def test_what_runs_is_kept_and_each_execution_is_asked_once(
    left: LeftBehind, clean_up: Make, sfn_strict: StrictStepFunctions
) -> None:
    """Objects of executions that run, wait for a redrive, or can be redriven stay, and are not listed."""
    pending, redrivable = execution("pending"), execution("redrivable")
    sfn_strict.executions |= {
        pending: "PENDING_REDRIVE",
        redrivable: {"status": "FAILED", "redriveStatus": "REDRIVABLE"},
    }
    for arn in (RUNNING, pending, redrivable):
        for name in ("a", "b", "c"):
            left.task(arn).put(name, b"1")
    removal = clean_up(delete=True)
    assert list(removal.leftovers()) == []
    assert removal.tally.running == 9
    assert sfn_strict.count("DescribeExecution") == 3


def test_a_child_is_kept_while_its_parent_runs(
    left: LeftBehind, clean_up: Make, sfn_strict: StrictStepFunctions
) -> None:
    """A child that has ended is not left over before the execution that started it has."""
    left.task(DONE, parent=RUNNING).put("a", b"1")
    assert list(clean_up(delete=True).leftovers()) == []
    sfn_strict.executions[RUNNING] = "SUCCEEDED"
    assert [each.removed for each in clean_up(delete=True).leftovers()] == [True]


def test_a_child_of_a_map_is_as_its_parent_is(
    left: LeftBehind, clean_up: Make, sfn_strict: StrictStepFunctions
) -> None:
    """Step Functions may not know the child of a Distributed Map; it ends with the execution that has the map."""
    child = execution("9c1e", "Segment/Tiles")
    left.task(child, parent=RUNNING).put("a", b"1")
    assert list(clean_up(delete=True).leftovers()) == []
    sfn_strict.executions[RUNNING] = "ABORTED"
    assert [each.removed for each in clean_up(delete=True).leftovers()] == [True]


@pytest.mark.parametrize("fault", ["denied", None])
def test_without_an_answer_nothing_is_removed(
    left: LeftBehind, clean_up: Make, sfn_strict: StrictStepFunctions, fault: str | None
) -> None:
    """Without permission, or where Step Functions does not know a young execution, objects are only listed."""
    left.task(FAILED if fault else execution("forgotten")).put("a", b"1")
    sfn_strict.fault("DescribeExecution", *[fault] * 4 if fault else [])
    removal = clean_up(delete=True)
    (found,) = removal.leftovers()
    assert (found.kind, found.removed) == ("unknown", False)
    assert removal.tally.hindered == (1 if fault else 0)


def test_an_object_of_a_task_without_an_execution_is_only_listed(left: LeftBehind, clean_up: Make) -> None:
    """Nobody can say whether a task outside of Step Functions still runs."""
    left.task(None).put("a", b"1")
    (found,) = clean_up(delete=True).leftovers()
    assert (found.kind, found.execution, found.removed) == ("unknown", None, False)


def test_an_execution_of_another_account_is_unknown(left: LeftBehind, clean_up: Make) -> None:
    """Whatever a Step Functions says that cannot know it."""
    left.task(DONE.replace("123456789012", "999999999999")).put("a", b"1")
    (found,) = clean_up(delete=True).leftovers()
    assert (found.kind, found.removed) == ("unknown", False)
    assert "its account is 999999999999" in found.why


def test_young_objects_are_kept_by_the_servers_clock(left: LeftBehind, clean_up: Make) -> None:
    """What was written within the age stays, and is not even asked for."""
    left.task(FAILED).put("a", b"1")
    removal = clean_up(age=timedelta(hours=1), delete=True)
    assert list(removal.leftovers()) == []
    assert (removal.tally.seen, removal.tally.young) == (1, 1)


def test_a_redrive_that_began_meanwhile_keeps_its_objects(
    left: LeftBehind, clean_up: Make, sfn_strict: StrictStepFunctions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The execution is asked again right before its objects go: the first answer was FAILED, the second RUNNING."""
    left.task(FAILED).put("a", b"1")
    removal = clean_up(delete=True)
    settled = removal._settled

    def redriven(candidates: Any) -> Any:
        assert len(candidates) == 1 or not candidates
        sfn_strict.executions[FAILED] = "RUNNING"
        return settled(candidates)

    monkeypatch.setattr(removal, "_settled", redriven)
    assert list(removal.leftovers()) == []
    assert (removal.tally.removed, removal.tally.running) == (0, 1)


@pytest.mark.parametrize("whose", ["own", "another attempt's"])
def test_a_record_that_appeared_meanwhile_keeps_what_it_names(
    left: LeftBehind, clean_up: Make, monkeypatch: pytest.MonkeyPatch, whose: str
) -> None:
    """A record of the execution, written after the records were read and before it ended, is read before it counts."""
    task = left.task(DONE)
    pointer = task.put("a", b"1")
    removal = clean_up(delete=True)
    settled = removal._settled

    def committed(candidates: Any) -> Any:
        left.commit(task if whose == "own" else left.task(DONE), artifacts={"a": pointer})
        return settled(candidates)

    monkeypatch.setattr(removal, "_settled", committed)
    assert list(removal.leftovers()) == []
    assert removal.tally.removed == 0
    assert pointer.key in left.stored()


def test_an_object_that_was_replaced_meanwhile_stays(
    left: LeftBehind, clean_up: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes only while it has the ETag that was listed."""
    pointer = left.task(FAILED).put("a", b"1")
    removal = clean_up(delete=True)
    head = removal._inventory._head

    def replaced(version: Any) -> Any:
        answer = head(version)
        if removal.tally.leftovers:  # the look right before the deletion
            left.client.put_object(Bucket=left.bucket, Key=pointer.key, Body=b"another")
        return answer

    monkeypatch.setattr(removal._inventory, "_head", replaced)
    assert [each.removed for each in removal.leftovers()] == [False]
    assert removal.tally.failed == 0
    assert pointer.key in left.stored()


def test_old_uploads_of_ended_executions_are_aborted(left: LeftBehind, clean_up: Make) -> None:
    """Their neighbours say whose they are; an upload without one, and one of an execution that runs, stays."""
    begun = {}
    for name, arn in (("ended", FAILED), ("running", RUNNING)):
        task = left.task(arn)
        task.put("a", b"1")
        key = task.url.removeprefix(f"s3://{left.bucket}/")
        begun[name] = left.client.create_multipart_upload(Bucket=left.bucket, Key=f"{key}big.bin")["Key"]
    begun["sibling"] = "runs/Segment/failed/Other/0-eeee/big.bin"
    begun["alone"] = "runs/Another/e/S/0-ffff/big.bin"
    for name in ("sibling", "alone"):
        left.client.create_multipart_upload(Bucket=left.bucket, Key=begun[name])
    removal = clean_up(delete=True)
    found = {each.url.rpartition(f"{left.bucket}/")[2]: each for each in removal.leftovers() if each.upload_id}
    assert {key: (each.kind, each.removed) for key, each in found.items()} == {
        begun["ended"]: ("leftover", True),
        begun["sibling"]: ("leftover", True),
        begun["alone"]: ("unknown", False),
    }
    still = {each["Key"] for each in left.client.list_multipart_uploads(Bucket=left.bucket)["Uploads"]}
    assert still == {begun["running"], begun["alone"]}


def test_a_manifest_that_leads_to_a_manifest_is_refused(left: LeftBehind, clean_up: Make) -> None:
    """It counts as a record that cannot be read."""
    task = left.task(DONE)
    inner = task.put_document("stepout-output", {"stepout": "output/1", "artifacts": {}})
    outer = task.put_document("stepout-result", {"stepout": "output/1", "manifest": inner.to_dict()})
    left.commit(task, artifacts=None, manifest=outer)
    left.task(FAILED).put("a", b"1")
    removal = clean_up(delete=True)
    assert {each.kind for each in removal.leftovers()} == {"unknown"}
    assert removal.tally.removed == 0


def test_a_listing_elsewhere_is_read_only_where_allowed(left: LeftBehind, clean_up: Make) -> None:
    """What a record leads to in another bucket is not fetched unasked, and keeps everything."""
    pointer = left.task(DONE).put_bytes("folder", b"{}", media_type=DIRECTORY)
    elsewhere = {**pointer.to_dict(), "bucket": "elsewhere"}
    left.put_record(left.task(DONE), dump_json({"stepout": "output/1", "artifacts": {"folder": elsewhere}}))
    left.task(FAILED).put("a", b"1")
    removal = clean_up(delete=True)
    assert {each.kind for each in removal.leftovers()} == {"unknown"}
    assert "outside the allow-list" in next(iter(removal.unreadable.values()))


@pytest.mark.parametrize(("url", "age"), [("bucket/prefix", 1), ("s3://b/a//b", 1), ("s3://bucket/runs/", -1)])
def test_what_makes_no_sense_is_refused_before_any_request(url: str, age: int) -> None:
    """A URL that is none, a prefix that is not safe, a negative age."""
    from stepout.clean_up import CleanUp
    from stepout.clean_up.executions import Executions

    with pytest.raises(ConfigurationError):
        CleanUp(url, older_than=timedelta(days=age), client=object(), executions=Executions(object()))


def test_the_json_of_a_leftover_leaves_out_what_is_not_known(left: LeftBehind, clean_up: Make) -> None:
    """Absent members are absent, not null."""
    pointer = left.task(FAILED).put("a", b"1")
    (found,) = clean_up().leftovers()
    assert json.loads(json.dumps(found.to_dict())) == {
        "url": pointer.url,
        "size": 1,
        "ageSeconds": int(found.age.total_seconds()),
        "execution": FAILED,
        "kind": "leftover",
        "why": "no record names it; its execution is over (FAILED)",
        "removed": False,
    }


def test_progress_is_neither_a_record_nor_a_leftover(left: LeftBehind, clean_up: Make) -> None:
    """It lies beside an outcome, also where that is called as a record is; it names nothing, and stays."""
    failed = left.task(FAILED)
    failed.put("half", b"12345")
    names = ("runs/outputs/Mask.json", "runs/_output.json")
    named = TaskProgress(done=1, message=str(next(iter(failed.pointers.values())).to_dict()))
    for name in names:
        left.client.put_object(Bucket=left.bucket, Key=progress_key(name), Body=named.to_text().encode())
    removal = clean_up(delete=True)
    found = list(removal.leftovers())
    assert _kinds(found, left) == dict.fromkeys(keys_of(failed.pointers), "leftover")
    assert removal.unreadable == {}
    assert removal.tally.foreign == len(names)
    assert {progress_key(name) for name in names} <= left.stored()

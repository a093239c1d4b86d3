"""File systems over committed artifacts: what they show, what they refuse, and how they travel to other processes."""

from __future__ import annotations

import concurrent.futures
import copy
import gc
import json
import multiprocessing
import os
import pickle
import random
import subprocess
import sys
import threading
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import fsspec
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest
from dask.base import tokenize
from support.forked_child import begin_child, exit_code
from support.seaweed import ADMIN, free_ports
from support.shelf import Shelf

import stepout
from stepout.artifacts.fsspec_protocol import StepoutFileSystem
from stepout.artifacts.memory import MemoryStore
from stepout.artifacts.reading.artifact import Artifact
from stepout.artifacts.reading.documents.foreign_artifact import ForeignArtifact
from stepout.artifacts.reading.files.file_tree import FileTree

if TYPE_CHECKING:
    from support.seaweed import Seaweed

TABLE = pa.table({"id": range(300), "day": [str(each % 3) for each in range(300)]})
BAD_PATHS = ("/features", "features//x", "files/../note", "stepout://features", "a\0b", "./features")
READ = "import pickle, sys; thing = pickle.load(sys.stdin.buffer); "
TOKEN = "AQoDYXdzEJr-session-token"


@pytest.fixture(autouse=True)
def _environment(seaweed: Seaweed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Name the server and its keys where clients of our own find them."""
    for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_ENDPOINT_URL_S3", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", seaweed.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ADMIN.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", ADMIN.secret_key)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


@pytest.fixture
def document(seaweed: Seaweed, bucket: str) -> dict[str, Any]:
    """Write a table, a dataset, a folder and a text; return the output document."""
    manager = stepout.ArtifactManager(bucket, client=seaweed.client(), run=stepout.RunIdentity(state="S", run_id="r"))
    manager.put_table("features", TABLE)
    manager.put_dataset("days", TABLE, partition_by=["day"])
    manager.put_text("note", "h\N{LATIN SMALL LETTER E WITH ACUTE}llo\nworld\n")
    artifacts = {name: pointer.to_dict() for name, pointer in manager.pointers.items()}
    return {"stepout": "output/1", "artifacts": artifacts, "result": {"rows": 300}}


@pytest.fixture
def output(document: dict[str, Any], bucket: str) -> stepout.Output:
    """Resolve it through a client of our own."""
    return stepout.resolve_output(document, allow=[f"s3://{bucket}/"])


def _in_a_process(thing: Any, expression: str, **environ: str | None) -> subprocess.CompletedProcess[str]:
    """Unpickle a thing in a new interpreter and print what an expression says of it."""
    variables = {**os.environ, **{name: value for name, value in environ.items() if value is not None}}
    for name in [name for name, value in environ.items() if value is None]:
        variables.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", f"{READ}print({expression})"],
        input=pickle.dumps(thing), capture_output=True, env=variables, check=False,
    )  # fmt: skip
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


# What is there --------------------------------------------------------------------------------------------------------


def test_pyarrow_sees_what_the_documents_name(output: stepout.Output) -> None:
    """Files and folders, with sizes and times; what does not exist is not found."""
    system = output.filesystem()
    found = system.get_file_info(["features", "days", "days/day=1", "nothing", "features/x", "days/x", ""])
    kinds = [each.type for each in found]
    file, folder, missing = pafs.FileType.File, pafs.FileType.Directory, pafs.FileType.NotFound
    assert kinds == [file, folder, folder, missing, missing, missing, folder]
    assert found[0].size == output["features"].size
    assert found[0].mtime is not None
    paths = [each.path for each in system.get_file_info(pafs.FileSelector("days", recursive=True))]
    assert paths == [path for day in "012" for path in (f"days/day={day}", f"days/day={day}/part-00000.parquet")]
    assert len(system.get_file_info(pafs.FileSelector("days"))) == 3
    assert system.get_file_info(pafs.FileSelector("nothing", allow_not_found=True)) == []


def test_pyarrow_is_told_what_a_selector_cannot_list(output: stepout.Output) -> None:
    """Dask asks for a file as if it were a folder, and goes by the class of the error."""
    system = output.filesystem()
    with pytest.raises(NotADirectoryError, match="features is a file"):
        system.get_file_info(pafs.FileSelector("features"))
    with pytest.raises(FileNotFoundError, match="days, note"):
        system.get_file_info(pafs.FileSelector("nothing"))
    with pytest.raises(IsADirectoryError):
        system.open_input_file("days")
    with pytest.raises(FileNotFoundError):
        system.open_input_file("days/nothing")


@pytest.mark.parametrize("path", BAD_PATHS)
def test_a_path_that_is_no_path_is_refused(output: stepout.Output, path: str) -> None:
    """Other spellings of a path are errors in pyarrow, never another file."""
    system = output.filesystem()
    with pytest.raises(ValueError, match="the path"):
        system.get_file_info([path])
    with pytest.raises(ValueError, match="the path"):
        system.open_input_file(path)


def test_both_file_systems_are_read_only(output: stepout.Output) -> None:
    """Every way to write is refused by name."""
    system, files = output.filesystem(), output.filesystem("fsspec")
    for act in (system.create_dir, system.delete_dir, system.delete_file, system.open_output_stream):
        with pytest.raises(PermissionError, match="read-only"):
            act("x")
    for way in (files.rm, files.mkdir, files.touch, lambda path: files.open(path, "wb"), files.makedirs):
        with pytest.raises(PermissionError, match="read-only"):
            way("note")
    with pytest.raises(PermissionError, match="read-only"):
        files.pipe_file("x", b"")
    with pytest.raises(stepout.ConfigurationError, match='expected "pyarrow" or "fsspec"'):
        output.filesystem("s3")  # type: ignore[arg-type]


def test_a_read_ends_with_the_file(output: stepout.Output) -> None:
    """Whoever asks beyond the end gets what there is."""
    data = output["note"].read_bytes()
    with output.filesystem().open_input_file("note") as file:
        assert file.size() == len(data)
        assert file.read_at(1000, 2) == data[2:]
        file.seek(len(data))
        assert file.read(10) == b""
    files = output.filesystem("fsspec")
    assert files.cat_file("note", 2, 1000) == data[2:]
    assert files.cat_file("note", -3) == data[-3:]
    assert files.cat_file("note", 50, 60) == b""
    assert files.cat_ranges(["note", "note"], [0, 3], [2, -1]) == [data[:2], data[3:-1]]


def test_no_listing_is_read_before_it_is_asked_for(document: dict[str, Any]) -> None:
    """One path costs one listing at most, and nothing is asked twice."""
    pointers = {name: stepout.Pointer.from_dict(each) for name, each in document["artifacts"].items()}
    pointers["more"] = pointers["days"]
    asked: list[str] = []

    def listing(pointer: stepout.Pointer) -> list[Any]:
        asked.append(pointer.key)
        return []

    tree = FileTree(pointers, listing)
    assert [each.path for each in tree.children("")] == [*pointers]
    assert tree.entry("days") is not None
    assert tree.entry("features/x") is None
    assert asked == []
    assert tree.entry("days/x") is None
    assert tree.children("days") == []
    assert len(asked) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_a_process_forked_while_a_listing_is_read_reads_it_itself(document: dict[str, Any]) -> None:
    """The thread that reads it, and holds the lock meanwhile, is not there in the child."""
    parent, reading, read = os.getpid(), threading.Event(), threading.Event()

    def listing(_: stepout.Pointer) -> list[Any]:
        reading.set()
        if os.getpid() == parent:
            read.wait()
        return []

    tree = FileTree({"days": stepout.Pointer.from_dict(document["artifacts"]["days"])}, listing)
    thread = threading.Thread(target=tree.entry, args=("days/x",))
    thread.start()
    reading.wait()
    child = begin_child(lambda: tree.entry("days/x") is not None)
    read.set()
    thread.join()
    assert exit_code(child) == 0


def test_the_bucket_is_neither_listed_nor_asked(document: dict[str, Any], seaweed: Seaweed, bucket: str) -> None:
    """Strays beside committed files stay invisible, since only GETs of what documents name are sent."""
    client = seaweed.client()
    key = document["artifacts"]["days"]["key"].rpartition("/")[0]
    client.put_object(Bucket=bucket, Key=f"{key}/days/day=9/stray.parquet", Body=b"stray")
    sent: list[str] = []
    client.meta.events.register("before-send.s3", lambda request, **_: sent.append(f"{request.method} {request.url}"))
    output = stepout.resolve_output(document, allow=[f"s3://{bucket}/"], client=client)
    files = output.filesystem("fsspec")
    assert len(files.find("days")) == 3
    assert files.isdir("days")
    assert not files.exists("days/day=9")
    assert files.du("") > 0
    assert [line.split("?")[0].rpartition("/")[2] for line in sent] == [
        document["artifacts"]["days"]["key"].rpartition("/")[2]
    ]
    assert ds.dataset("days", filesystem=output.filesystem(), partitioning="hive").count_rows() == 300
    assert all(line.startswith("GET ") and "list-type" not in line and "prefix=" not in line for line in sent)


# fsspec ---------------------------------------------------------------------------------------------------------------


def test_fsspec_finds_its_way(output: stepout.Output) -> None:
    """walk, glob, exists, isdir, isfile, find and info answer as other file systems do."""
    files = output.filesystem("fsspec")
    parts = [f"days/day={day}/part-00000.parquet" for day in "012"]
    assert files.glob("days/*/*.parquet") == parts
    assert [name for name, _, _ in files.walk("days")] == ["days", *(path.rpartition("/")[0] for path in parts)]
    assert list(files.find("days", detail=True)) == parts
    assert files.isfile("features")
    assert not files.isfile("days")
    assert files.exists("stepout://days/day=1")
    assert not files.exists("a/../features")
    assert files.ls("features", detail=False) == ["features"]
    found = files.info("features")
    digest = f"sha256:{output['features'].pointer.checksum['sha256']}"
    assert (found["type"], found["size"], found["checksum"]) == ("file", output["features"].size, digest)
    assert files.checksum("features") == files.ukey("features") == digest
    assert files.checksum("days") != files.checksum("days/day=1") != files.checksum("")
    with pytest.raises(FileNotFoundError):
        files.ls("nothing")


def test_fsspec_reads_text_and_bytes(output: stepout.Output) -> None:
    """Text with an encoding, a block size, a cache type, compression by the name's end, and readinto."""
    files = output.filesystem("fsspec")
    with files.open("note", "r", encoding="utf-8", compression="infer") as text:
        assert text.readlines()[1] == "world\n"
    with files.open("note", block_size=4, cache_type="readahead") as file:
        buffer = bytearray(3)
        file.seek(1)
        assert file.readinto(buffer) == 3
        assert (bytes(buffer), file.size, file.tell()) == (output["note"].read_bytes()[1:4], file.info()["size"], 4)
    assert files.head("note", 2) == b"h\xc3"
    assert files.tail("note", 3) == b"ld\n"


@pytest.fixture
def options(document: dict[str, Any], bucket: str) -> dict[str, Any]:
    """Return storage options, with the protocol registered as an install does it."""
    fsspec.register_implementation("stepout", StepoutFileSystem, clobber=True)
    return {"documents": document, "allow": [f"s3://{bucket}/"]}


def test_engines_read_urls(options: dict[str, Any]) -> None:
    """fsspec, pandas and pyarrow take stepout:// with a document and an allow-list."""
    assert pd.read_parquet("stepout://features", storage_options=options)["id"].tolist() == list(range(300))
    with fsspec.open("stepout://note", "r", encoding="utf-8", **options) as text:
        assert text.read().endswith("world\n")
    system, path = fsspec.core.url_to_fs("stepout://days", **options)
    assert ds.dataset(path, filesystem=system, partitioning="hive").count_rows() == 300
    text_options = {**options, "documents": json.dumps(options["documents"])}
    assert fsspec.filesystem("stepout", **text_options) == system
    by_name = fsspec.filesystem("stepout", **{**options, "documents": options["documents"]["artifacts"]})
    assert by_name.find("") == system.find("")
    alone = fsspec.filesystem("stepout", **{**options, "documents": options["documents"]["artifacts"]["note"]})
    assert alone.ls("", detail=False) == ["artifact"]


def test_documents_share_no_file_system(options: dict[str, Any]) -> None:
    """Fsspec keeps file systems by their options: another document, allow-list or endpoint is another one."""
    one = fsspec.filesystem("stepout", **options)
    assert fsspec.filesystem("stepout", **copy.deepcopy(options)) is one
    other = copy.deepcopy(options)
    other["documents"]["artifacts"]["note"]["checksum"] = {"sha256": "0" * 64}
    two = fsspec.filesystem("stepout", **other)
    assert two != one
    assert tokenize(two) != tokenize(one)
    assert fsspec.filesystem("stepout", **options, endpoint_url="http://127.0.0.1:1") != one
    options["documents"]["artifacts"].pop("note")
    assert not fsspec.filesystem("stepout", **options).exists("note")
    assert one.exists("note")


def test_fsspec_keeps_a_few_file_systems_of_many_documents(options: dict[str, Any]) -> None:
    """A worker that reads thousands of outputs by URL keeps the file systems of a few, and those that it holds."""
    held = fsspec.filesystem("stepout", **options)
    gone = []
    for number in range(100):
        document = {**options["documents"], "result": {"number": number}}
        gone.append(weakref.ref(fsspec.filesystem("stepout", **{**options, "documents": document})))
    gc.collect()
    assert sum(each() is not None for each in gone) <= 32
    assert held.head("note", 1) == b"h"


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"documents": None}, "documents="),
        ({"allow": None}, "allow="),
        ({"documents": 3}, "got int"),
        ({"key": "AKIA"}, "'key' is not known"),
        ({"endpoint_url": 3}, "endpoint_url=3"),
        ({"verify": "md5"}, "verify="),
    ],
)
def test_options_that_are_missing_or_wrong_are_named(
    options: dict[str, Any], changed: dict[str, Any], told: str
) -> None:
    """The error says what to pass; keys are not taken at all."""
    with pytest.raises(stepout.ConfigurationError, match=told):
        fsspec.filesystem("stepout", **{**options, **changed})


# How they travel ------------------------------------------------------------------------------------------------------


def test_pool_processes_read_what_was_pickled(output: stepout.Output) -> None:
    """A spawned process of a pool makes its own client and returns the verified values."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        assert pool.submit(Artifact.read_bytes, output["note"]).result() == output["note"].read_bytes()
        assert pool.submit(pq.read_table, "features", filesystem=output.filesystem()).result() == TABLE
        files = output.filesystem("fsspec")
        assert pool.submit(files.cat_file, "note").result() == output["note"].read_bytes()
        again = pool.submit(copy.copy, output).result()
    assert (again["note"].name, again.result) == ("note", {"rows": 300})
    assert again["features"].read_table() == TABLE


def test_no_credential_travels(
    output: stepout.Output, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the keys nor the session's token are in a pickle, whatever has been read before."""
    output["note"].read_bytes()
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    things = [
        output, output["note"], output.filesystem(), output["days"].filesystem("fsspec"),
        fsspec.filesystem("stepout", **options), fsspec.open("stepout://note", **options),
    ]  # fmt: skip
    for thing in things:
        for data in (pickle.dumps(thing), pickle.dumps(copy.deepcopy(thing))):
            assert not any(each.encode() in data for each in (ADMIN.access_key, ADMIN.secret_key, TOKEN))


def test_a_password_in_an_endpoint_does_not_travel(output: stepout.Output, monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint's URL may hold one, which botocore passes over: the server's name goes without it."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", os.environ["AWS_ENDPOINT_URL"].replace("://", "://user:hunter2@"))
    assert b"hunter2" not in pickle.dumps(output)
    assert pickle.loads(pickle.dumps(output))["note"].read_text().endswith("world\n")


def test_the_endpoint_that_was_used_wins(output: stepout.Output) -> None:
    """A worker's environment names another server: the state's is asked, on the cold route and through botocore."""
    elsewhere = f"http://127.0.0.1:{free_ports(1)[0]}"
    for expression in ("len(thing['note'].read_bytes())", "thing['features'].read_table().num_rows"):
        done = _in_a_process(output, expression, AWS_ENDPOINT_URL=elsewhere, AWS_ENDPOINT_URL_S3=elsewhere)
        assert done.stderr == ""
        assert done.stdout.strip() in {str(output["note"].size), "300"}


def test_a_profile_travels_by_its_name(output: stepout.Output, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker without that profile is told which one is missing."""
    monkeypatch.setenv("AWS_PROFILE", "night-shift")
    done = _in_a_process(output, "thing['note'].read_bytes()", AWS_PROFILE=None)
    assert "ConfigurationError" in done.stderr
    assert "night-shift" in done.stderr


def test_a_worker_without_credentials_says_so(output: stepout.Output) -> None:
    """It is told what is missing at its first read."""
    none = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None, "AWS_EC2_METADATA_DISABLED": "true"}
    files = {"AWS_SHARED_CREDENTIALS_FILE": os.devnull, "AWS_CONFIG_FILE": os.devnull}
    done = _in_a_process(output.filesystem("fsspec"), "thing.cat_file('note')", **none, **files)
    assert done.returncode == 1
    assert "no credentials" in done.stderr.splitlines()[-1]


def test_equal_content_has_an_equal_token_everywhere(output: stepout.Output) -> None:
    """Dask's tokens are the same in another process, and others for other content."""
    things = [output, output["features"], output.filesystem(), output.filesystem("fsspec")]
    tokens = [tokenize(each) for each in things]
    assert len(set(tokens)) == 4
    said = _in_a_process(things, "[__import__('dask.base').base.tokenize(each) for each in thing]")
    assert said.stdout.strip() == str(tokens), said.stderr
    assert tokenize(output["note"]) != tokenize(output["features"])


def test_rules_travel_too(document: dict[str, Any], bucket: str) -> None:
    """Allow-list, limits, budget and what is verified are the same behind a pickle."""
    budget = stepout.ReadBudget(requests=7)
    for allow in ([f"s3://{bucket}/"], stepout.ANY_BUCKET):
        artifact = stepout.resolve_output(document, allow=allow, max_size=3, budget=budget, verify="sha256")["note"]
        again = pickle.loads(pickle.dumps(artifact))
        with pytest.raises(stepout.ArtifactTooLargeError, match="limit here is 3"):
            again.read_bytes()
        assert artifact.filesystem() == again.filesystem()
        assert artifact.filesystem() != artifact.filesystem(max_size=4)


def test_a_callers_client_stays_where_it_is(document: dict[str, Any], seaweed: Seaweed, bucket: str) -> None:
    """One sentence says why it is not pickled, and what to do; a store in memory is refused alike."""
    output = stepout.resolve_output(document, allow=[f"s3://{bucket}/"], client=seaweed.client())
    shelved = Shelf().artifact(b"data")
    for thing in (output, output["note"], output.filesystem(), output.filesystem("fsspec"), shelved):
        with pytest.raises(TypeError, match=r"cannot be pickled or copied, .* resolve without client="):
            pickle.dumps(thing)
    assert copy.copy(shelved).read_bytes() == b"data"


def test_a_foreign_artifact_travels(output: stepout.Output, bucket: str) -> None:
    """What a HEAD said of it goes along, and its kind."""
    reference = {"@middy-store": output["note"].url}
    artifact = stepout.resolve_artifact(reference, allow=[f"s3://{bucket}/"])
    again = pickle.loads(pickle.dumps(artifact))
    assert isinstance(again, ForeignArtifact)
    assert (again.kind, again.read_bytes()) == ("middy-store", output["note"].read_bytes())


# Hostile documents ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("paths", [["../x"], ["a\0b"], ["a", "a"], ["a", "a/b"], ["/x"], ["a//b"]])
@pytest.mark.parametrize("kind", ["pyarrow", "fsspec"])
def test_a_hostile_listing_shows_nothing(paths: list[str], kind: Any) -> None:
    """A path that escapes, has NUL or occurs twice refuses the folder as a whole."""
    shelf = Shelf()
    pointer = shelf.put(b"data").to_dict()
    listing = {"stepout": "directory/1", "files": [{"path": path, "pointer": pointer} for path in paths]}
    folder = shelf.artifact(json.dumps(listing).encode(), "d", media_type="application/vnd.stepout.directory+json")
    system = folder.filesystem(kind)
    with pytest.raises((stepout.NotAllowedError, stepout.InvalidDocumentError), match="listing"):
        system.ls("artifact") if kind == "fsspec" else system.get_file_info(pafs.FileSelector("artifact"))


# Faults ---------------------------------------------------------------------------------------------------------------


def test_a_flipped_bit_is_never_a_value() -> None:
    """Of 100 bits of a stored object of several blocks, each is refused by both file systems wherever it is read."""
    chance = random.Random(11)
    data = chance.randbytes(600_000)
    store = MemoryStore("results")
    pointer = stepout.ArtifactManager(store).put_bytes("raw", data)
    bare = replace(pointer, etag=None, version_id=None)  # so that nothing but the digests can tell
    refused = 0
    for number in range(100):
        # Another key each time: what is kept is kept by place and digest, and would be served as it was verified.
        one = replace(bare, key=f"{pointer.key}-{number}")
        damaged, at = bytearray(data), chance.randrange(len(data))
        damaged[at] ^= 1 << chance.randrange(8)
        store.replace(one.key, bytes(damaged))
        artifact = stepout.resolve_artifact(one, allow=["s3://results/"], client=store)
        start, stop = max(0, at - 1000), at + 1000
        try:
            if number % 2:
                got = artifact.filesystem("fsspec").cat_file("artifact", start, stop)
            else:
                with artifact.filesystem().open_input_file("artifact") as file:
                    got = file.read_at(stop - start, start)
        except stepout.IntegrityError:
            refused += 1
        else:
            assert got == data[start:stop]
    assert refused >= 90  # of a block that was read whole and undamaged before, memory may have the right bytes

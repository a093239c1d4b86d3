"""Processes that fork after they have put and read: connections are each process's own, and so is what it records."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest
from support.seaweed import ADMIN
from support.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.seaweed import Seaweed

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

START = """
import hashlib, json, os, secrets, signal, sys, threading, traceback
import stepout
ALL = [stepout.ANY_BUCKET]
bucket = os.environ["BUCKET"]

def output_of(pointers):
    document = {"stepout": "output/1", "artifacts": {name: each.to_dict() for name, each in pointers.items()}}
    return stepout.resolve_output(document, allow=ALL)

def forked(act, count=1):
    # What becomes of act(number) in so many children at once; they begin together.
    gate, opener = os.pipe()
    children = []
    for number in range(count):
        if not (child := os.fork()):
            signal.alarm(100)
            try:
                os.close(opener)
                os.read(gate, 1)
                act(number)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        children.append(child)
    os.close(opener)
    return children

def ended(children):
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]

def refused(act):
    try:
        act()
    except stepout.OtherProcessError as error:
        return str(error)
    raise AssertionError("it was not refused")
"""


@pytest.fixture
def wire(seaweed: Seaweed) -> Iterator[Wire]:
    """A wire to the server, which counts connections and keeps them."""
    with Wire(seaweed.endpoint, keep_alive=True) as wire:
        yield wire


@pytest.fixture
def run(wire: Wire, bucket: str) -> Any:
    """Run a program of its own process; return what it prints."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "STEPOUT_"))}
    environ = {
        **kept,
        "AWS_ENDPOINT_URL": wire.endpoint,
        "AWS_ACCESS_KEY_ID": ADMIN.access_key,
        "AWS_SECRET_ACCESS_KEY": ADMIN.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
        "BUCKET": bucket,
    }

    def run(program: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", START + textwrap.dedent(program)],
            env=environ, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert (done.stderr, done.returncode) == ("", 0)
        return done.stdout.strip()

    return run


def test_children_that_put_and_read_at_once_have_connections_of_their_own(run: Any) -> None:
    """A manager made in the child, the parent's, and what the parent resolved: every ETag is the object's own."""
    program = """
        manager = stepout.ArtifactManager(bucket)
        values = {"small": b"small" * 100, "large": b"large" * 500_000}
        pointers = {name: manager.put(name, value) for name, value in values.items()}
        manager.put_many({f"many{n}": b"x" for n in range(20)})
        output = output_of(pointers)
        assert {name: each.read_bytes() for name, each in output.items()} == values
        reader = output["large"].open()
        assert reader.read(5) == b"large"

        def act(number):
            mine = stepout.ArtifactManager(bucket) if number % 2 else manager
            for index in range(8):
                data = secrets.token_bytes(900)
                pointer = mine.put(f"c{number}_{index}", data)
                assert pointer.etag == '"' + hashlib.md5(data).hexdigest() + '"', pointer
                assert output["small"].read_bytes() == values["small"]
                assert output["large"].read_bytes() == values["large"]
            assert reader.read() == values["large"][5:]
            mine.put_many({f"m{number}_{index}": b"y" for index in range(20)})
            assert len(dict(output.read_many())) == 2
            assert number > 1 or "-" in mine.put(f"parts{number}", secrets.token_bytes(20 << 20)).etag

        children = forked(act, 4)
        for index in range(8):
            assert manager.put(f"p{index}", b"p").etag == '"' + hashlib.md5(b"p").hexdigest() + '"'
            assert output["large"].read_bytes() == values["large"]
        print(ended(children), reader.read() == values["large"][5:])
    """
    assert run(program) == "[0, 0, 0, 0] True"


@pytest.mark.parametrize(
    ("method", "act", "around"),
    [
        ("PUT", "manager.put('b', b'b')", "manager.put('c', b'c', mode='overwrite')"),
        ("PUT", "manager.put_many({'b': b'b'})", "manager.put('c', b'c', mode='overwrite')"),
        ("PUT", "stepout.ArtifactManager(bucket).put('b', b'b')", "manager.put('c', b'c', mode='overwrite')"),
        ("GET", "artifact.read_bytes()", "artifact.read_bytes()"),
        ("GET", "reader.read(2_000_000)", "reader.read(5)"),
    ],
)
def test_a_child_never_uses_a_connection_of_its_parent(
    run: Any, wire: Wire, method: str, act: str, around: str
) -> None:
    """It opens one, and the parent goes on with the one that it has."""
    program = f"""
        manager = stepout.ArtifactManager(bucket)
        artifact = output_of({{"a": manager.put("a", b"a" * 3_000_000)}})["a"]
        reader = artifact.open()
        {around}
        print(ended(forked(lambda _: {act})))
        {around}
    """
    assert run(program) == "[0]"
    assert sum(any(line.startswith(method) for line in lines) for lines in wire.connections) == 2


def test_a_client_that_was_passed_in_is_refused_in_a_child_with_a_way_out(run: Any, wire: Wire) -> None:
    """Also by a manager or a read that begins in the child; a client that the child makes works."""
    program = """
        import boto3
        client = boto3.client("s3")
        manager = stepout.ArtifactManager(bucket, client=client)
        pointer = manager.put("a", b"a")
        artifact = stepout.resolve_artifact(pointer, allow=ALL, client=client)
        assert artifact.read_bytes() == b"a"

        def act(_):
            new = lambda: stepout.ArtifactManager(bucket, client=client).put("c", b"c")
            resolved = lambda: stepout.resolve_artifact(pointer, allow=ALL, client=client).read_bytes()
            for each in (lambda: manager.put("b", b"b"), new, artifact.read_bytes, resolved):
                assert "Make a client in this process and pass that in; or pass none" in refused(each)
            own = boto3.client("s3")
            assert stepout.resolve_artifact(pointer, allow=ALL, client=own).read_bytes() == b"a"
            stepout.ArtifactManager(bucket, client=own).put("d", b"d")

        print(ended(forked(act)))
        manager.put("e", b"e"), artifact.read_bytes()
    """
    assert run(program) == "[0]"
    keys = [line.split()[1].rpartition("/")[2].partition("?")[0] for line in wire.lines]
    # Write-once writes are repeated once in each process, so runs of one key count once.
    assert [key for key, _ in itertools.groupby(keys)] == ["a", "d", "e", "a"]


def test_what_a_child_of_a_task_writes_is_adopted_by_it(run: Any) -> None:
    """What the refusal says works: a manager of the child's own, whose URL the task's process adopts."""
    program = """
        from stepout.callbacks import RecordingTarget
        target = RecordingTarget()
        with stepout.open_task(environ={"STEPOUT_BUCKET": bucket}, targets=target) as task:
            task.artifacts.put("first", b"first")
            receiver, sender = os.pipe()

            def act(_):
                message = refused(lambda: task.artifacts.put("mask", b"mask"))
                assert "an ArtifactManager that this process makes, and adopt its URL there" in message
                pointer = stepout.ArtifactManager(bucket).put("mask", b"mask")
                os.write(sender, pointer.url.encode())

            assert ended(forked(act)) == [0]
            task.artifacts.adopt("mask", os.read(receiver, 2000).decode(), verify="read")
        (document,) = target.successes
        output = stepout.resolve_output(document, allow=ALL)
        print({name: each.read_bytes() for name, each in output.items()})
    """
    assert run(program) == "{'first': b'first', 'mask': b'mask'}"


def test_a_child_ends_no_upload_of_its_parent(run: Any, wire: Wire) -> None:
    """A writer that was open when the process forked: the copy refuses, and whatever ends it ends it alone."""
    program = """
        manager = stepout.ArtifactManager(bucket)
        writer = manager.open("stream")
        writer.write(bytes(20 << 20))

        def act(number):
            if number == 0:
                assert "belongs to process" in refused(lambda: writer.write(b"more"))
            elif number == 1:
                assert "belongs to process" in refused(writer.close)
            elif number == 2:
                writer.abort()
            elif number == 3:
                manager.abort()
            else:
                manager.close()

        assert ended(forked(act, 5)) == [0] * 5
        writer.write(b"end")
        writer.close()
        print(writer.pointer.size - (20 << 20), list(manager.pointers))
    """
    assert run(program) == "3 ['stream']"
    aborts = [line for line in wire.lines if line.startswith("DELETE") and "uploadId" in line]
    assert all("stepout-trial-" in line for line in aborts)


def test_locks_that_another_thread_held_are_free_in_a_child(run: Any) -> None:
    """A thread that was in the middle of something when the process forked is not there to let go."""
    program = """
        manager = stepout.ArtifactManager(bucket)
        output = output_of({"a": manager.put("a", b"a")})
        artifact = output["a"]
        artifact.read_bytes()
        store = manager._writes.store
        locks = [manager._writes.registry._lock, store.ordinary().connection._lock]
        held, done = threading.Event(), threading.Event()

        def hold():
            for lock in locks:
                lock.acquire()
            held.set()
            done.wait()

        threading.Thread(target=hold, daemon=True).start()
        held.wait()

        def act(_):
            manager.put("b", b"b"), manager.put("c", b"c")
            assert list(manager.pointers) == ["a", "b", "c"]
            artifact.read_bytes()

        print(ended(forked(act)))
    """
    assert run(program) == "[0]"


def test_an_iterator_over_many_reads_is_refused_in_a_child(run: Any) -> None:
    """Its threads are the parent's: it would wait for them without an end."""
    program = """
        manager = stepout.ArtifactManager(bucket)
        pointers = manager.put_many({f"n{number}": b"x" for number in range(200)})
        reads = stepout.read_many(output_of(pointers), connections=2)
        next(reads)
        print(ended(forked(lambda _: refused(lambda: list(reads)))), len(list(reads)))
    """
    assert run(program) == "[0] 199"


def test_a_client_that_only_the_parent_s_own_code_used_connects_anew_in_a_child(run: Any, wire: Wire) -> None:
    """Nobody can tell whose its connections are, so none that is open goes on in the child."""
    program = """
        import boto3
        client = boto3.client("s3")
        client.put_object(Bucket=bucket, Key="x", Body=b"x")

        def act(_):
            stepout.ArtifactManager(bucket, client=client).put("b", b"b")

        print(ended(forked(act)))
    """
    assert run(program) == "[0]"
    (of_parent,) = [lines for lines in wire.connections if any("/x" in line for line in lines)]
    assert len(of_parent) == 1

"""Keys: safe, bounded, inside their prefix, and apart where their origins differ."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepout.artifacts.keys import (
    KEY_LIMIT,
    PREFIX_LIMIT,
    artifact_key,
    check_name,
    check_prefix,
    check_suffix,
    execution_parts,
    file_key,
    files_folder,
    run_folder,
    safe_segment,
)
from stepout.schemas import RunIdentity
from stepout.schemas.errors import ConfigurationError, InvalidDocumentError

EXECUTION = "arn:aws:states:eu-west-1:123456789012:execution:Segment:7f3c"

anything = st.text(st.characters(codec=None), max_size=200)
safe_names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,40}", fullmatch=True)
prefixes = st.lists(st.from_regex(r"[A-Za-z0-9=_é]{1,30}", fullmatch=True), max_size=12).map("/".join)
runs = st.builds(
    RunIdentity,
    execution=st.none() | anything.filter(bool) | st.just(EXECUTION),
    state=st.none() | anything,
    attempt=st.none() | st.integers(0, 10**9),
    map_index=st.none() | st.from_regex(r"[0-9]{1,5}(-[0-9]{1,5}){0,30}", fullmatch=True),
    nonce=anything,
    run_id=anything,
)


def test_the_key_is_the_one_that_the_design_shows() -> None:
    """Prefix, state machine, execution, state, attempt and nonce, name and extension follow each other."""
    run = RunIdentity(execution=EXECUTION, state="Mask", attempt=0, nonce="ab12")
    assert (
        artifact_key(run_folder("runs", run), "features", ".parquet")
        == "runs/Segment/7f3c/Mask/0-ab12/features.parquet"
    )


def test_a_map_index_has_a_segment_of_its_own() -> None:
    """Iterations of a Map, nested ones too, do not share a folder."""
    run = RunIdentity(execution=EXECUTION, state="Mask", attempt=2, map_index="3-0", nonce="ab12")
    assert run_folder("", run) == "Segment/7f3c/Mask/3-0/2-ab12"


def test_the_fixed_layout_leaves_the_nonce_out() -> None:
    """A fixed key can be computed without knowing the process."""
    run = RunIdentity(execution=EXECUTION, state="Mask", attempt=1, nonce="ab12")
    assert run_folder("runs", run, layout="fixed") == "runs/Segment/7f3c/Mask/1"


def test_without_an_execution_the_run_id_stands_in() -> None:
    """A run outside Step Functions has a folder too."""
    run = RunIdentity(run_id="20261122T120000000Z-00ff00ff00ff", nonce="ab12")
    assert run_folder("", run) == "standalone/20261122T120000000Z-00ff00ff00ff/task/0-ab12"


@pytest.mark.parametrize(
    ("arn", "parts"),
    [
        (EXECUTION, ("Segment", "7f3c")),
        ("arn:aws-cn:states:cn-north-1:123456789012:execution:S:e", ("S", "e")),
        ("arn:aws:states:eu-west-1:123456789012:express:S:e:1b2c", ("S", "e:1b2c")),
        ("arn:aws:states:eu-west-1:123456789012:execution:S/label:1b2c", ("S", "/label:1b2c")),
        ("arn:aws:states:eu-west-1:123456789012:mapRun:S/label:1b2c", ("S", "/label:1b2c")),
        ("my own run", ("executions", "my own run")),
        ("arn:aws:states:eu-west-1:123456789012:stateMachine:S", None),
    ],
)
def test_executions_are_told_by_their_arn(arn: str, parts: tuple[str, str] | None) -> None:
    """Standard, express and map-run ARNs give the state machine; any other text is an execution of no machine."""
    assert execution_parts(arn) == (parts or ("executions", arn))


@given(prefix=prefixes, run=runs, name=st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,2000}", fullmatch=True))
def test_keys_never_leave_their_prefix(prefix: str, run: RunIdentity, name: str) -> None:
    """Whatever the names hold, a key stays below its prefix, is safe everywhere, and fits."""
    if len(prefix.encode()) > PREFIX_LIMIT:
        return
    folder = run_folder(check_prefix(prefix), run)
    for key in (artifact_key(folder, name, ".tar.gz"), file_key(files_folder(folder, name), f"{name}/../{run.state}")):
        assert len(key.encode()) <= KEY_LIMIT
        rest = key.removeprefix(f"{prefix}/") if prefix else key
        assert re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+", rest)
        assert key.startswith(folder + "/")
        assert all(len(segment) <= 255 for segment in rest.split("/"))


@given(st.sets(anything, min_size=2, max_size=8))
def test_texts_that_differ_give_segments_that_differ(texts: set[str]) -> None:
    """Making a text safe loses characters but not identity."""
    segments = {safe_segment(text) for text in texts}
    assert len(segments) == len(texts)
    assert all(len(segment) <= 96 for segment in segments)


@given(anything)
def test_a_safe_segment_cannot_be_forged(text: str) -> None:
    """A text that is spelled like another one's safe segment does not get that segment."""
    segment = safe_segment(text)
    if segment != text:
        assert safe_segment(segment) != segment


def test_the_same_run_makes_the_same_keys() -> None:
    """Keys are functions: what is too long is shortened the same way every time."""
    run = RunIdentity(execution=EXECUTION, state="é" * 80, nonce="n")
    first, second = (artifact_key(run_folder("p" * 700, run), "x" * 2000, ".parquet") for _ in range(2))
    assert first == second
    assert len(first) <= KEY_LIMIT
    assert first.endswith(".parquet")


def test_two_long_names_do_not_meet() -> None:
    """Names that share their first thousand characters keep apart."""
    folder = run_folder("p", RunIdentity(execution=EXECUTION, nonce="n"))
    assert artifact_key(folder, "x" * 1500 + "a") != artifact_key(folder, "x" * 1500 + "b")


def test_two_long_paths_of_a_directory_do_not_meet() -> None:
    """Paths of files that are too long for a key keep apart, and below their artifact."""
    folder = run_folder("p" * 600, RunIdentity(execution=EXECUTION, nonce="n"))
    keys = {file_key(files_folder(folder, "d" * 400), "x/" * 500 + tail) for tail in ("a", "b")}
    assert len(keys) == 2
    assert all(len(key) <= KEY_LIMIT and key.startswith(folder) for key in keys)


@pytest.mark.parametrize(
    "prefix",
    [
        "/",
        "/runs",
        "runs//x",
        "runs/../x",
        "..",
        "./x",
        "a\\b",
        "a\x00b",
        "a\nb",
        "a{b}",
        "\ud800",
        "a\u202eb",
        "é" * 385,
        "a//",
    ],
)
def test_unsafe_prefixes_are_refused(prefix: str) -> None:
    """A prefix that would leave the bucket's order, or leave no room, is a configuration error."""
    with pytest.raises(ConfigurationError, match="nothing was sent"):
        check_prefix(prefix)


@pytest.mark.parametrize(
    ("prefix", "bare"), [("", ""), ("runs/", "runs"), ("a/date=2026-11-22", "a/date=2026-11-22"), ("é", "é")]
)
def test_safe_prefixes_lose_only_their_last_slash(prefix: str, bare: str) -> None:
    """Prefixes are otherwise used as they are."""
    assert check_prefix(prefix) == bare


@pytest.mark.parametrize("name", ["", "1a", "a-b", "a.b", "a b", "é", "a\n", "../x", None, 3, b"a", "a" * 200 + "-"])
def test_names_that_a_state_machine_could_not_say_are_refused(name: object) -> None:
    """Anything but letters, digits and _ is a ValueError."""
    with pytest.raises(InvalidDocumentError, match="artifact name") as caught:
        check_name(name)
    assert isinstance(caught.value, ValueError)
    assert [problem.kind for problem in caught.value.problems] == ["name"]


@given(safe_names)
def test_names_are_kept(name: str) -> None:
    """A name that is one appears in the key as it is."""
    assert artifact_key("f", check_name(name)) == f"f/{safe_segment(name, 255)}" == f"f/{name}"


@pytest.mark.parametrize("suffix", ["csv", ".", "..", ".a/b", ".a.b.c", ".a b", "." + "a" * 17, "/../x", ".é"])
def test_suffixes_that_are_none_are_refused(suffix: str) -> None:
    """A suffix cannot carry a path or anything odd into a key."""
    with pytest.raises(ConfigurationError, match="suffix"):
        check_suffix(suffix)

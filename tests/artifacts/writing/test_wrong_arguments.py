"""What a caller may get wrong: every slip is an error of ours that names it, before anything is sent."""

from __future__ import annotations

import array
from pathlib import PurePosixPath
from typing import Any

import boto3
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from PIL import Image

from stepout.artifacts import ArtifactManager, Encryption, MemoryStore, TransferSettings
from stepout.artifacts.writing.options import encryption_of
from stepout.schemas import RunIdentity
from stepout.schemas.errors import ConfigurationError, InvalidDocumentError

PICTURE = Image.new("RGB", (4, 3))


@pytest.fixture
def store() -> MemoryStore:
    """An empty bucket."""
    return MemoryStore("results")


@pytest.fixture
def manager(store: MemoryStore) -> ArtifactManager:
    """A manager of that bucket."""
    return ArtifactManager(store, "runs")


@pytest.mark.parametrize(
    "annotations",
    [
        {"link": "https://b/k?X-Amz-Signature=" + "ab" * 32},
        {"link": "https://b/k?awsaccesskeyid=AKIA&Signature=abab&Expires=1"},
        {"deep": [{"fields": {"policy": "e30=", "x-amz-signature": "abab"}}]},
        {"https://d/k?Policy=e&Signature=abab&Key-Pair-Id=K": 1},
    ],
)
def test_a_presigned_url_in_annotations_is_refused(
    store: MemoryStore, manager: ArtifactManager, annotations: dict[str, Any]
) -> None:
    """A pointer is a document: its place is named, its value is not, and nothing was sent."""
    with pytest.raises(InvalidDocumentError, match=r"\$\.annotations.*presigned URL") as caught:
        manager.put("a", b"1", annotations=annotations)
    with pytest.raises(InvalidDocumentError), manager.open("b", annotations=annotations):
        pass
    assert "abab" not in str(caught.value)
    assert store.keys() == []


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"tags": [("team", "maps")]}, "tags are of type list: expected a dict"),
        ({"tags": "team=maps"}, "tags are of type str: expected a dict"),
        ({"metadata": [1]}, "metadata is of type list: expected a dict"),
        ({"object_lock": {"mode": "GOVERNANCE"}}, r"object_lock is of type dict: expected ObjectLock\("),
        ({"storage_class": 3}, "storage_class: expected text"),
        ({"expected_bucket_owner": 123456789012}, "12 digits as text"),
        ({"profile": 3}, "profile is of type int: expected 'aws'"),
        ({"settings": {}}, r"settings is of type dict: expected TransferSettings\("),
        ({"run": {"execution": "e"}}, r"run is of type dict: expected RunIdentity\("),
        ({"run": ""}, "run is of type str"),
        ({"prefix": None}, "the prefix is of type NoneType: expected text"),
        ({"prefix": PurePosixPath("a/b")}, "the prefix is of type PurePosixPath"),
        ({"encryption": {"kms_key": "k"}}, r"encryption is of type dict: expected Encryption\("),
        ({"encryption": "aws:kms:dsse"}, "encryption is 'aws:kms:dsse': expected"),
    ],
)
def test_a_setting_of_the_wrong_type_is_named(store: MemoryStore, arguments: dict[str, Any], match: str) -> None:
    """A setting of another type is refused when the manager is made, with what was expected."""
    with pytest.raises(ConfigurationError, match=match):
        ArtifactManager(store, **arguments)


def test_settings_may_be_left_out_by_none(store: MemoryStore) -> None:
    """``None`` stands for the usual setting."""
    manager = ArtifactManager(
        store, settings=None, run=None, profile=None, tags=None, metadata=None, storage_class=None
    )
    assert manager.put("a", b"x").size == 1
    assert ArtifactManager(store, settings=TransferSettings(), run=RunIdentity(state="S")).run.state == "S"


def test_kms_without_a_key_is_the_accounts_own() -> None:
    """S3's own name of the algorithm is understood; the key is the one that S3 would take."""
    assert encryption_of("aws:kms") == Encryption(kms=True)


@pytest.mark.parametrize("client", ["s3", boto3.session.Session(), boto3.client("sqs", region_name="eu-west-1")])
def test_a_client_that_is_none_of_s3_is_refused(client: Any) -> None:
    """A service's name, a session or a client of another service is found before the first request."""
    with pytest.raises(ConfigurationError, match=r"client is of type .*boto3\.client"):
        ArtifactManager("results", client=client)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"suffix": 3}, "suffix 3: expected a file extension"),
        ({"media_type": 3}, "mediaType"),
        ({"media_type": b"text/csv"}, "mediaType"),
        ({"annotations": "rows=3"}, "annotations of artifact 'a' are of type str"),
        ({"annotations": [("rows", 3)]}, "are of type list: expected a dict"),
    ],
)
def test_an_option_of_the_wrong_type_is_named(
    manager: ArtifactManager, store: MemoryStore, options: Any, match: str
) -> None:
    """Every put refuses an option that it cannot use, and sends nothing."""
    with pytest.raises((ConfigurationError, InvalidDocumentError), match=match):
        manager.put_bytes("a", b"x", **options)
    with pytest.raises((ConfigurationError, InvalidDocumentError), match=match):
        manager.open("a", "wb", **options)
    assert store.keys() == []


def test_options_of_open_may_be_none(manager: ArtifactManager) -> None:
    """``None`` counts as absent for a writer, too."""
    with manager.open("a", "wb", suffix=None, media_type=None) as writer:  # type: ignore[call-overload]  # the point
        writer.write(b"x")
    assert writer.pointer.media_type == "application/octet-stream"


@pytest.mark.parametrize(
    ("method", "arguments", "match"),
    [
        ("put_text", {"text": "x", "encoding": None}, "encoding is None"),
        ("put_file", {"path": None}, "expected a path, or a binary file object, got NoneType"),
        ("put_file", {"path": b"/tmp/a"}, "got bytes"),
        ("put_directory", {"path": None}, "expected a path.*got NoneType"),
        ("put_table", {"table": pa.table({"n": [1]}), "row_group_bytes": "1MB"}, "row_group_bytes is '1MB'"),
        ("put_table", {"table": pa.table({"n": [1]}), "compression": None}, "compression None: expected snappy"),
        ("put_image", {"image": PICTURE, "qualty": 90}, "put_image does not know qualty.*png takes optimize"),
        ("put_image", {"image": PICTURE, "format": "jpeg", "lossless": True}, "does not know lossless.*jpeg takes"),
        (
            "put_image",
            {"image": np.ma.array(np.zeros((2, 2), "u1"), mask=[[True, False], [False, True]])},
            r"masked.*\.filled",
        ),
        ("put_table", {"table": pd.Series([1], name="n")}, r"one column; pass its \.to_frame\(\)"),
        ("put_table", {"table": pl.Series("n", [1])}, r"one column; pass its \.to_frame\(\)"),
        ("put", {"value": array.array("d", [1.0])}, "nothing here writes a array.array"),
    ],
)
def test_an_argument_of_the_wrong_type_is_named(
    manager: ArtifactManager, store: MemoryStore, method: str, arguments: dict[str, Any], match: str
) -> None:
    """A value or a setting of a put that is none is an error that says so, and nothing is sent."""
    with pytest.raises(ConfigurationError, match=match):
        getattr(manager, method)("a", **arguments)
    assert store.keys() == []


def test_a_pointer_in_place_of_a_url_is_pointed_out(manager: ArtifactManager) -> None:
    """``adopt`` takes a URL, and says where a pointer has its own."""
    pointer = manager.put("a", b"x")
    with pytest.raises(ConfigurationError, match=r"of type Pointer: expected.*pointer\.url"):
        manager.adopt("b", pointer)  # type: ignore[arg-type]  # the point
    assert manager.adopt("b", pointer.url).size == 1


def test_python_objects_of_polars_are_refused(manager: ArtifactManager, store: MemoryStore) -> None:
    """A column of Python objects would be stored as their addresses in memory, so it is refused by name."""
    frame = pl.DataFrame({"n": [1], "things": pl.Series([object()], dtype=pl.Object)})
    with pytest.raises(ConfigurationError, match="column 'things' holds Python objects"):
        manager.put("a", frame)
    assert store.keys() == []


@pytest.mark.parametrize("kind", [pa.list_(pa.int8(), 0), pa.struct([("empty", pa.list_(pa.int8(), 0))])])
def test_lists_of_no_length_are_refused(manager: ArtifactManager, store: MemoryStore, kind: pa.DataType) -> None:
    """Arrow writes lists of the fixed size 0 and cannot read them back, so they are refused."""
    with pytest.raises(ConfigurationError, match=r"column 'c' is of type .*which Parquet cannot hold"):
        manager.put_table("a", pa.table({"c": pa.nulls(1, kind)}))
    assert store.keys() == []

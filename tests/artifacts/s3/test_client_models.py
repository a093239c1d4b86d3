"""A client of ours finds S3's description where botocore would, and looks at no other service."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import botocore
from botocore.session import get_session

from stepout.artifacts.s3.client_models import find_s3_alone
from stepout.artifacts.s3.clients import make_client

if TYPE_CHECKING:
    import pytest


def test_a_session_knows_no_service_but_s3() -> None:
    """Whatever kind of description is asked for."""
    session = get_session()
    find_s3_alone(session)
    assert session.get_available_services() == ["s3"]


def test_a_client_is_what_botocore_makes_of_the_same_description() -> None:
    """The same operations at the same endpoint."""
    usual: Any = get_session().create_client("s3", region_name="eu-west-1")
    ours = make_client(region="eu-west-1")
    assert ours.meta.service_model.operation_names == usual.meta.service_model.operation_names
    assert ours.meta.endpoint_url == usual.meta.endpoint_url


def test_a_description_of_the_users_own_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``AWS_DATA_PATH`` names its folder, perhaps by other variables."""
    version = "2031-01-01"
    found = Path(botocore.__file__).parent / "data" / "s3" / "2006-03-01"
    shutil.copytree(found, tmp_path / "s3" / version)
    monkeypatch.setenv("MODELS", str(tmp_path))
    monkeypatch.setenv("AWS_DATA_PATH", "$MODELS")
    session = get_session()
    find_s3_alone(session)
    loader = session.get_component("data_loader")
    assert loader.determine_latest_version("s3", "service-2") == version
    assert make_client(region="eu-west-1").meta.region_name == "eu-west-1"

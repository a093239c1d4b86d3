"""Tasks of executions, as they leave their objects in a bucket: with a record, or without."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import stepout
from stepout.artifacts.commit_record import recorded_task
from stepout.artifacts.keys import run_folder
from stepout.artifacts.manager import ArtifactManager
from stepout.schemas import Pointer, RunIdentity, TaskOutput
from stepout.schemas.text.json_text import dump_json
from stepout.testing import RecordingTarget

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepout.artifacts.keys import Layout

ACCOUNT = "123456789012"
OF = f"arn:aws:states:eu-west-1:{ACCOUNT}:execution"


def execution(name: str, machine: str = "Segment") -> str:
    """The ARN of an execution."""
    return f"{OF}:{machine}:{name}"


@dataclass
class LeftBehind:
    """A bucket in which tasks write below ``runs/``."""

    client: Any
    bucket: str
    prefix: str = "runs"
    _tasks: int = field(default=0, repr=False)

    def task(
        self, arn: str | None, *, parent: str | None = None, layout: Layout = "run", **given: Any
    ) -> ArtifactManager:
        """A manager of a task that keeps a record; its record is written by ``commit``."""
        self._tasks += 1
        run = RunIdentity(
            execution=arn, parent_execution=parent, run_id=None if arn else "r1", nonce=f"{self._tasks:04x}", state="S"
        )
        task = recorded_task(run_folder(self.prefix, run, layout=layout), self.prefix, run)
        metadata = {**task.to_metadata(), **given.pop("metadata", {})}
        return ArtifactManager(
            self.bucket, self.prefix, client=self.client, run=run, layout=layout, metadata=metadata, **given
        )

    def open_task(self, arn: str, prefix: str | None = None, **more: Any) -> stepout.OpenTask:
        """A task as jobs open it, which keeps its record by itself."""
        environ = {"STEPOUT_EXECUTION": arn, "STEPOUT_STATE": "S", "STEPOUT_S3_PROFILE": "compatible"}
        return stepout.open_task(
            bucket=self.bucket,
            prefix=self.prefix if prefix is None else prefix,
            client=self.client,
            **{"environ": environ, "targets": RecordingTarget(), **more},
        )

    def commit(self, manager: ArtifactManager, **more: Any) -> str:
        """Write the record of a task; returns its key."""
        output = TaskOutput(**{"artifacts": dict(manager.pointers), **more})
        return self.put_record(manager, dump_json(output.to_dict()))

    def put_record(self, manager: ArtifactManager, data: bytes) -> str:
        """Write any bytes as a task's record; returns its key."""
        key = f"{manager.url.removeprefix(f's3://{self.bucket}/')}_output.json"
        self.client.put_object(Bucket=self.bucket, Key=key, Body=data)
        return key

    def versions(self) -> set[tuple[str, str]]:
        """Every version of every object: key and version."""
        pages = self.client.get_paginator("list_object_versions").paginate(Bucket=self.bucket)
        return {(each["Key"], each["VersionId"]) for page in pages for each in page.get("Versions", [])}

    def stored(self) -> set[str]:
        """The keys of all objects."""
        return {key for key, _ in self.versions()}


def keys_of(pointers: Mapping[str, Pointer]) -> set[str]:
    """The keys that pointers name."""
    return {pointer.key for pointer in pointers.values()}

"""A plain installation, without the extra ``fast``: large artifacts go up and come down whole."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from support.seaweed import ADMIN

if TYPE_CHECKING:
    from pathlib import Path

    from support.seaweed import Seaweed

SIZE = (20 << 20) + 7
SCRIPT = """
import sys
sys.modules.update(awscrt=None, obstore=None)
import json
import stepout
path, bucket = sys.argv[1:]
manager = stepout.ArtifactManager(bucket, "runs")
whole = manager.put_file("whole", path)
class Pipe:
    def __init__(self, file):
        self.read = file.read
with open(path, "rb") as file:
    streamed = manager.put_file("streamed", Pipe(file))
found = [stepout.resolve_artifact(each.to_dict(), allow=[f"s3://{bucket}/"]) for each in (whole, streamed)]
found[0].download(path + ".again")
with found[1].open() as stream:
    stream.read(3)
print(json.dumps([whole.checksum, streamed.checksum, len(found[1].read_bytes())]))
"""


def test_large_artifacts_need_no_extra(seaweed: Seaweed, seaweed_client: Any, bucket: str, tmp_path: Path) -> None:
    """A file and a stream in parts with CRC32 and SHA-256, read to a file, into memory and as a stream."""
    path = tmp_path / "source"
    path.write_bytes(os.urandom(SIZE))
    environ = {
        **os.environ,
        "AWS_ENDPOINT_URL": seaweed.endpoint,
        "AWS_ACCESS_KEY_ID": ADMIN.access_key,
        "AWS_SECRET_ACCESS_KEY": ADMIN.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    command = [sys.executable, "-c", SCRIPT, str(path), bucket]
    run = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr
    whole, streamed, length = json.loads(run.stdout)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert whole["sha256"] == streamed["sha256"] == digest
    assert length == SIZE
    assert path.with_name("source.again").read_bytes() == path.read_bytes()
    objects = seaweed_client.list_objects_v2(Bucket=bucket)["Contents"]
    etags = {each["Key"].rpartition("/")[2]: each["ETag"] for each in objects}
    lists = [name for name in etags if name.startswith("blocks-")]
    assert len(lists) == 1  # of CRC32, and the same for both
    assert all(("-" in etag) == (name not in lists) for name, etag in etags.items())  # in parts

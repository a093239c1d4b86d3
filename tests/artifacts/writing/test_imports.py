"""Import weight of the producer: a put of one kind loads none of the others."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PUT = """
import sys
from stepout import ArtifactManager
from stepout.artifacts.memory import MemoryStore

manager = ArtifactManager(MemoryStore("results"), prefix="runs")
manager.put_bytes("a", b"x" * 2_000_000)
manager.put_file("b", __file__)
print(*sorted(sys.modules))
"""


def test_a_put_of_a_file_loads_no_tables_images_or_folders(tmp_path: Path) -> None:
    """Nor what only puts of many things need, nor anything that computes statistics."""
    script = tmp_path / "put.py"
    script.write_text(PUT)
    run = subprocess.run(
        [sys.executable, str(script)],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    loaded = set(run.stdout.split())
    assert "stepout.artifacts.writing.planned_put" in loaded
    ours = {name.rpartition(".")[2] for name in loaded if name.startswith("stepout.")}
    assert not ours & {"tables", "images", "arrow", "dataset", "dataset_manifest", "directory", "directory_listing"}
    assert not ours & {"adopt", "put_many", "writer", "worker_pool", "column_statistics", "read_limit"}
    assert not loaded & {"statistics", "fractions", "pyarrow", "PIL", "numpy", "jsonschema", "boto3"}

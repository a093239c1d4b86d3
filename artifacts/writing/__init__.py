"""From a value to a committed artifact: what to write, under which name and key, and the record of it.

Kinds of puts are imported when they are first used, so that a process that writes a file loads no tables and no images.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from stepout.artifacts.writing.dataset import DatasetSettings as DatasetSettings
    from stepout.artifacts.writing.dataset import merge_datasets as merge_datasets
    from stepout.artifacts.writing.dataset import put_dataset as put_dataset
    from stepout.artifacts.writing.directory import put_directory as put_directory
    from stepout.artifacts.writing.image import put_image as put_image
    from stepout.artifacts.writing.table import put_table as put_table
    from stepout.artifacts.writing.writer import open_writer as open_writer

# Name to the module that defines it; the imports above say the same to type checkers.
_HOMES: Final = {
    "DatasetSettings": "dataset",
    "merge_datasets": "dataset",
    "open_writer": "writer",
    "put_dataset": "dataset",
    "put_directory": "directory",
    "put_image": "image",
    "put_table": "table",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)

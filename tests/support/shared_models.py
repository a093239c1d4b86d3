"""What botocore reads from its data files is read once a process: that is most of what making a client costs."""

from __future__ import annotations

import functools
from typing import Any

import botocore.session
from botocore.loaders import JSONFileLoader


def share_models() -> None:
    """Let all clients of this process share it, also those whose session has a loader of its own."""
    botocore.session.create_loader = functools.cache(botocore.session.create_loader)
    load = functools.cache(functools.partial(JSONFileLoader.load_file, JSONFileLoader()))

    def load_file(_: JSONFileLoader, file_path: str) -> Any:
        return load(file_path)

    setattr(JSONFileLoader, "load_file", load_file)  # noqa: B010 - a name of another package

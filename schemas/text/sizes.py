"""How a number of bytes is written for people, the same everywhere. Pure."""

from __future__ import annotations


def human_size(size: int | None) -> str:
    """Return a size as people write it.

    Args:
        size: Bytes; ``None``: nobody knows.

    >>> human_size(0), human_size(1536), human_size(5 * 2**30), human_size(None)
    ('0 B', '1.5 KiB', '5.0 GiB', '?')
    """
    if size is None:
        return "?"
    value, units = float(size), ["B", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:  # noqa: PLR2004 - the definition of a KiB
        value /= 1024
        units.pop(0)
    return f"{size} B" if units[0] == "B" else f"{value:.1f} {units[0]}"

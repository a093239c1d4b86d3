"""How large row groups are; apart from ``tables``, which puts of anything else do without."""

from __future__ import annotations

from typing import Final

ROW_GROUP_BYTES: Final = 64 << 20
"""Arrow memory gathered into one row group, about."""

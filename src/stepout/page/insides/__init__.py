"""What is inside of an artifact, as much of it as fits on a page: verified, bounded, and never the whole."""

from __future__ import annotations

from stepout.page.insides.inside import look_inside
from stepout.page.insides.look import NOTHING_READ, Look

__all__ = ["NOTHING_READ", "Look", "look_inside"]

"""For the tests of programs that use stepout: a store and a target in memory.

Both are programs, not mocks: ``MemoryStore`` keeps bytes and verifies checksums, ``RecordingTarget`` closes after one
report. See docs/how-to/test-with-pytest.md.
"""

from __future__ import annotations

from stepout.artifacts.memory import MemoryStore
from stepout.callbacks.targets.recording import RecordingTarget

__all__ = ["MemoryStore", "RecordingTarget"]

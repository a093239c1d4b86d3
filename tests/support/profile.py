"""How thorough this run of the tests is: every day's, or the one that ``make test PROFILE=ci`` and ``.ci/run`` make."""

from __future__ import annotations

import os

THOROUGH = bool(os.environ.get("STEPOUT_TEST_SLOW"))

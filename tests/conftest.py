"""Fixtures shared by all tests; each lives beside the program it starts, in ``support``."""

from __future__ import annotations

from importlib.util import find_spec

from hypothesis import HealthCheck, settings

pytest_plugins = [
    name for name in ("support.seaweed", "support.ministack", "support.sfn_strict") if find_spec(name) is not None
]

# How long an example takes says how busy the machine is, and nothing of the code.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

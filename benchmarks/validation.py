"""A document of 300 pointers is checked: as a consumer does it, as a producer does, and by hand with ``jsonschema``."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from benchmarks import ours

if TYPE_CHECKING:
    from benchmarks.job import Job, Work

__all__ = ["POINTERS", "VALIDATION"]

POINTERS = 300
CALLS = 15

Check = Callable[[dict[str, Any]], object]


def _document(job: Job) -> dict[str, Any]:
    names = [f"part_{number:05}" for number in range(job.count)]
    return {"stepout": "output/1", "artifacts": {name: ours.pointer(job, name) for name in names}}


def _timed(job: Job, check: Check) -> Work:
    """Check once beforehand, so that modules are loaded and schemas parsed; then take the median of some calls."""
    document = _document(job)
    check(document)

    def work() -> dict[str, Any]:
        walls, cpus = [], []
        for _ in range(CALLS):
            cpu, start = time.process_time(), time.perf_counter()
            check(document)
            walls.append(time.perf_counter() - start)
            cpus.append(time.process_time() - cpu)
        return {"wall": statistics.median(walls), "cpu": statistics.median(cpus)}

    return work


def _consumer(job: Job) -> Work:
    from stepout.schemas import TaskOutput

    return _timed(job, TaskOutput.from_dict)


def _producer(job: Job) -> Work:
    from stepout.schemas.validation import validate

    def check(document: dict[str, Any]) -> None:
        if validate(document):
            msg = "a valid document was found wanting"
            raise AssertionError(msg)

    return _timed(job, check)


def _kept_validator(job: Job) -> Work:
    from jsonschema import Draft202012Validator

    from stepout.schemas.validation import registry, schema

    return _timed(job, Draft202012Validator(schema("output"), registry=registry()).validate)


def _validate_function(job: Job) -> Work:
    import jsonschema

    from stepout.schemas.validation import registry, schema

    parsed = schema("output")
    return _timed(job, lambda document: jsonschema.validate(document, parsed, registry=registry()))


VALIDATION: dict[str, dict[str, Callable[[Job], Work]]] = {
    "stepout, as consumer": {"validate": _consumer},
    "stepout, as producer": {"validate": _producer},
    "jsonschema, validator kept": {"validate": _kept_validator},
    "jsonschema.validate": {"validate": _validate_function},
}

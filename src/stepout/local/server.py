"""``python -m stepout.local.server``: ministack, with the gate before its engine and a Python of its own for Lambda."""

from __future__ import annotations

import os
import threading
from importlib import import_module
from pathlib import Path
from typing import Any

from stepout.local.distributed_map import DistributedMaps
from stepout.local.engine import LocalEngine
from stepout.local.function_log import FILE, write_down
from stepout.local.gate import EngineGate

_NOT_FOR_FUNCTIONS = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")
"""Variables that would lead a function's interpreter to the packages of this process instead of its own."""


def main() -> None:
    """Serve until SIGTERM; ministack reads its settings from the environment, and ``STATE_DIR`` is where to write."""
    # This process has read them at its start; ministack hands its own environment on to the functions.
    for name in _NOT_FOR_FUNCTIONS:
        os.environ.pop(name, None)
    engine = LocalEngine(*(import_module(f"ministack.services.{name}") for name in ("stepfunctions", "ecs", "s3")))
    EngineGate(engine).install()
    DistributedMaps(engine).install()
    _give_python(vars(import_module("ministack.core.lambda_runtime")))
    write_down(vars(import_module("ministack.services.lambda_svc")), Path(os.environ["STATE_DIR"]) / FILE)
    import_module("ministack.app").main()


def _give_python(runtime: dict[str, Any]) -> None:
    detect, folder = runtime["_detect_runtime_binary"], Path(os.environ["STATE_DIR"]) / "python"

    made = threading.Lock()  # two functions may start at once, and one environment is made for all

    def python() -> str:
        from stepout.local.lambda_runtime import python_runtime  # only those who call a function wait for it

        with made:
            return python_runtime(folder)

    def detected(name: str) -> tuple[str, str]:
        binary, script = detect(name)
        return (python() if name.startswith("python") else binary), script

    runtime["_detect_runtime_binary"] = detected


if __name__ == "__main__":
    main()

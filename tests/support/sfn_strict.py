"""A strict Step Functions stand-in: the callback API over real HTTP, with the rules that emulators leave out.

It speaks AWS JSON 1.0 to any boto3 client (``endpoint_url``) and enforces the rules of ``stepout.local.token_rules``,
as the local AWS does; besides them KMS keys that the caller may not use, and names of ``States.*``, which AWS accepts
in a failure. Error messages echo the token, as some servers do: nobody may pass them on unredacted.
"""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict, deque
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from stepout.local.token_rules import TaskTokens, TokenRefusal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_stepfunctions import SFNClient

__all__ = ["Call", "StrictStepFunctions", "sfn_strict"]


class _StatesRefusal(Exception):  # noqa: N818 - an answer of the protocol
    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


@dataclass
class _Waiting:
    """What is known of one state that waits, besides what the rules know."""

    kms: bool
    accepted: list[tuple[str, dict[str, Any]]] = field(default_factory=list)


@dataclass(frozen=True)
class Call:
    """One request as it came in, and the code of its answer (``None``: none was sent)."""

    action: str
    parameters: dict[str, Any]
    answer: str | None


class StrictStepFunctions:
    """The server; ``issue`` makes a state wait, and the rest tells what became of it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._tokens = TaskTokens(self._now)
        self._waiting: dict[str, _Waiting] = {}
        self._faults: dict[str, deque[str]] = defaultdict(deque)
        self._offset = 0.0
        self._released = threading.Event()
        self._called = threading.Condition(self._lock)
        self.calls: list[Call] = []
        self.executions: dict[str, str | dict[str, Any]] = {}  # what DescribeExecution says: a status, or an answer
        self._server = _Server(("127.0.0.1", 0), _StatesHandler)
        self._server.strict = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    @property
    def endpoint_url(self) -> str:
        """Where clients connect."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def environment(self) -> dict[str, str]:
        """What a child process needs to talk to this server."""
        return {
            "AWS_ENDPOINT_URL_SFN": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_REGION": "eu-west-1",
            "AWS_DEFAULT_REGION": "eu-west-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self, **config: Any) -> SFNClient:
        """A boto3 client; without retries of its own unless ``config`` says otherwise."""
        import boto3
        from botocore.config import Config

        settings = {"retries": {"total_max_attempts": 1}, "connect_timeout": 60, "read_timeout": 60, **config}
        return boto3.client(
            "stepfunctions",
            endpoint_url=self.endpoint_url,
            region_name="eu-west-1",
            aws_access_key_id="local",
            aws_secret_access_key="local",
            config=Config(**settings),
        )

    def issue(self, *, heartbeat: float | None = None, timeout: float | None = None, kms: bool = False) -> str:
        """A state begins to wait; ``kms``: its execution is encrypted with a key that callers may not use."""
        with self._lock:
            token = self._tokens.issue(heartbeat=heartbeat, timeout=timeout)
            self._waiting[token] = _Waiting(kms)
        return token

    def retry(self, token: str) -> str:
        """The state is tried again: the old token is closed, and the new one is another."""
        self.close(token)
        return self.issue()

    def close(self, token: str) -> None:
        """The state stops waiting."""
        self._tokens.close(token)

    def forget(self, token: str) -> None:
        """Make a token one that was never issued."""
        self._tokens.forget(token)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        with self._lock:
            self._offset += seconds

    def fault(self, action: str, *faults: str) -> None:
        """Spoil the next calls of an action (``SendTaskSuccess`` …), one fault each."""
        with self._lock:
            self._faults[action].extend(faults)

    def release(self) -> None:
        """Answer the stalled calls after all."""
        self._released.set()

    def accepted(self, token: str) -> list[tuple[str, dict[str, Any]]]:
        """The terminal reports that were accepted: one at most, or a rule was broken."""
        with self._lock:
            reports = list(self._waiting[token].accepted)
        assert len(reports) <= 1, "a token had two terminal reports"
        return reports

    def success(self, token: str) -> dict[str, Any]:
        """The output document that was accepted."""
        ((action, parameters),) = self.accepted(token)
        assert action == "SendTaskSuccess", parameters
        document: dict[str, Any] = json.loads(parameters["output"])
        return document

    def failure(self, token: str) -> tuple[str | None, dict[str, Any]]:
        """Error and parsed cause that were accepted."""
        ((action, parameters),) = self.accepted(token)
        assert action == "SendTaskFailure", parameters
        return parameters.get("error"), json.loads(parameters.get("cause") or "{}")

    def count(self, action: str) -> int:
        """How many requests of this action came in."""
        with self._lock:
            return sum(call.action == action for call in self.calls)

    def wait_for(self, action: str, times: int = 1, *, seconds: float = 60) -> None:
        """Wait until so many requests of this action came in."""
        with self._called:
            assert self._called.wait_for(lambda: self.count(action) >= times, timeout=seconds), f"no {action}"

    def stop(self) -> None:
        """Stop listening: from now on connections are refused."""
        self._released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    # What the handler asks ------------------------------------------------------------------------------------------

    def answer(self, action: str, parameters: dict[str, Any]) -> tuple[int, dict[str, Any]] | None:
        """Status and body, or ``None`` to drop the connection."""
        with self._lock:
            fault = self._faults[action].popleft() if self._faults[action] else None
        if fault == "stall":
            self._note(action, parameters, None)
            self._released.wait()
            return None
        try:
            code, result = "OK", self._perform(action, parameters, fault)
        except _StatesRefusal as refusal:
            code = refusal.code
            result = (refusal.status, {"__type": f"com.amazonaws.states#{code}", "message": str(refusal)})
        dropped = fault in ("lost", "drop")
        self._note(action, parameters, None if dropped else code)
        return None if dropped else result

    def _perform(self, action: str, parameters: dict[str, Any], fault: str | None) -> tuple[int, dict[str, Any]]:
        token = str(parameters.get("taskToken", ""))
        if fault is not None and fault != "lost":
            raise _FAULTS[fault]
        if action == "DescribeExecution":
            return 200, self._described(str(parameters["executionArn"]))
        with self._lock:
            try:
                self._take(action, token, parameters)
            except TokenRefusal as refusal:
                raise _StatesRefusal(refusal.code, f"{refusal}: {token}") from None
        return 200, {}

    def _described(self, execution: str) -> dict[str, Any]:
        found = self.executions.get(execution)
        if found is None:
            raise _StatesRefusal("ExecutionDoesNotExist", f"Execution Does Not Exist: '{execution}'")
        known = {"status": found} if isinstance(found, str) else found
        machine = execution.rpartition(":")[0].replace(":execution:", ":stateMachine:")
        return {"executionArn": execution, "stateMachineArn": machine, "startDate": 1.0, **known}

    def _take(self, action: str, token: str, parameters: dict[str, Any]) -> None:
        if action == "SendTaskHeartbeat":
            self._tokens.heartbeat(token)
            return
        self._tokens.check(token)
        state = self._waiting[token]
        if parameters.get("error", "").startswith("States."):
            raise _StatesRefusal("ValidationException", "a stricter rule than Amazon's: names of States.* are reserved")
        if state.kms and parameters.keys() & {"output", "error", "cause"}:
            raise _StatesRefusal("KmsAccessDeniedException", f"no access to the key of {token}")
        self._tokens.report(action, parameters)
        state.accepted.append((action, parameters))

    def _note(self, action: str, parameters: dict[str, Any], answer: str | None) -> None:
        with self._called:
            self.calls.append(Call(action, parameters, answer))
            self._called.notify_all()

    def _now(self) -> float:
        return time.monotonic() + self._offset


_FAULTS = {
    "drop": _StatesRefusal("Dropped", "never sent"),
    "throttle": _StatesRefusal("ThrottlingException", "Rate exceeded"),
    "500": _StatesRefusal("InternalServerError", "internal", 500),
    "503": _StatesRefusal("ServiceUnavailable", "try later", 503),
    "504": _StatesRefusal("GatewayTimeout", "no answer from behind", 504),
    "denied": _StatesRefusal("AccessDeniedException", "is not authorized to perform: states:SendTaskHeartbeat", 400),
}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    strict: StrictStepFunctions


class _StatesHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        action = self.headers["X-Amz-Target"].removeprefix("AWSStepFunctions.")
        answer = self.server.strict.answer(action, body)
        if answer is None:
            self.close_connection = True
            return
        status, document = answer
        content = json.dumps(document).encode()
        with suppress(ConnectionError):  # A client that was killed meanwhile.
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.0")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as http.server has it
        """Say nothing."""


@pytest.fixture
def sfn_strict() -> Iterator[StrictStepFunctions]:
    """A strict Step Functions of the test's own."""
    server = StrictStepFunctions()
    yield server
    server.stop()

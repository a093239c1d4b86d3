"""An AWS on this machine for demos and tests: Step Functions, ECS, Lambda, S3, SQS and SNS, without Docker.

The services come from ministack (extra ``local``), which answers on a loopback port; the commands of ECS tasks are run
as processes by ``stepout.local.ecs``. The limits and clocks that decide whether a state succeeds are enforced before
ministack's engine (``stepout.local.gate``). It is no AWS: ``docs/reference/local-aws.md`` says what it does not play.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from stepout.callbacks.process.process_group import end_group, spawn
from stepout.local.events import TaskEvents, task_state_change
from stepout.local.marked_processes import MARKER, end_marked, marked
from stepout.schemas.errors import ConfigurationError, StoreUnavailableError
from stepout.schemas.text.foreign_text import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stepout.local.ecs import EcsAgent
    from stepout.local.function_log import FunctionLog
    from stepout.local.task import LocalTask

_logger = logger("stepout.local")

_ACCOUNT = "000000000000"
_START_SECONDS = 30.0
_PORT_TRIES = 5


def clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return ``environ`` without what would lead a program to a real account, or tell it that it is a task already.

    Args:
        environ: Usually ``os.environ``.

    Examples:
        >>> clean_environment({"HOME": "/root", "AWS_PROFILE": "prod", "STEPOUT_BUCKET": "b", "TASK_TOKEN": "t"})
        {'HOME': '/root'}
    """
    return {
        name: value
        for name, value in environ.items()
        if not name.startswith(("AWS_", "ECS_", "STEPOUT_")) and name != "TASK_TOKEN"
    }


class LocalAws:
    """A local AWS: ``with LocalAws() as aws: aws.client("s3")``.

    Nothing is left when the block ends, whatever ends it: no process, no temporary folder. A second process cleans up
    should this one be killed. The one exception: a process of a container that left its process group *and* cleared its
    environment cannot be told from others.

    Args:
        port: The loopback port; a free one by default.
        region: The region that everything is in.
        on_output: Called with a container's name and each line that it prints; for a Lambda function, with
            ``function NAME`` and each line that a call has printed or raised, once the call has ended. By default the
            lines are logged to ``stepout.local``. Called from several threads.
        on_task_state_change: Called with each "ECS Task State Change" event, when a task runs and when it has stopped,
            in a thread of its own. The event goes to the rules of the default event bus as well, with Lambda functions
            and SQS queues as their targets.
        stop_grace: The seconds a container has between SIGTERM and SIGKILL when the block ends; its own stop timeout
            counts if that is shorter.

    Attributes:
        region: The region.
        account_id: The account.
    """

    def __init__(
        self,
        *,
        port: int | None = None,
        region: str = "us-east-1",
        on_output: Callable[[str, str], None] | None = None,
        on_task_state_change: Callable[[dict[str, Any]], object] | None = None,
        stop_grace: float = 5.0,
    ) -> None:
        if port is not None and not 1 <= port <= 65_535:  # noqa: PLR2004 - what TCP has
            raise ConfigurationError(f"port {port} is invalid: it must be a number from 1 to 65535")
        self.region = region
        self.account_id = _ACCOUNT
        self._wanted_port = port
        self._on_output = on_output or _log_line
        self._events = TaskEvents(self.client, on_task_state_change)
        self._stop_grace = stop_grace
        self._port: int | None = None
        self._mark = secrets.token_hex(8)
        self._lock = threading.Lock()
        self._folder: Path | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._janitor: subprocess.Popen[bytes] | None = None
        self._agent: EcsAgent | None = None
        self._functions: FunctionLog | None = None

    def __repr__(self) -> str:
        return f"LocalAws({f'http://127.0.0.1:{self._port}' if self._port else 'stopped'})"

    @property
    def endpoint(self) -> str:
        """The endpoint of every service, for example ``http://127.0.0.1:43210``."""
        if self._port is None:
            raise ConfigurationError("the local AWS is not running; use it as 'with LocalAws() as aws:'")
        return f"http://127.0.0.1:{self._port}"

    @property
    def environ(self) -> dict[str, str]:
        """What a program needs in its environment to reach this AWS and no other."""
        direct = ",".join(
            filter(None, (os.environ.get("NO_PROXY") or os.environ.get("no_proxy"), "127.0.0.1,localhost"))
        )
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": self.region,
            "AWS_REGION": self.region,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": direct,
            "no_proxy": direct,
            "STEPOUT_S3_PROFILE": "compatible",
        }

    @property
    def tasks(self) -> tuple[LocalTask, ...]:
        """Every ECS task that was started here, with exit codes and output, oldest first."""
        return self._agent.tasks if self._agent is not None else ()

    @property
    def alive(self) -> bool:
        """Whether the server runs."""
        return self._server is not None and self._server.poll() is None

    @property
    def processes(self) -> list[int]:
        """The ids of all processes that belong to it, where ``/proc`` shows them; empty once it has ended."""
        return list(marked(self._mark))

    def client(self, service: str) -> Any:
        """Return a boto3 client of this AWS, untouched by the caller's profiles, credentials and proxies.

        Args:
            service: For example ``"s3"`` or ``"stepfunctions"``.
        """
        import boto3
        import botocore.session
        from botocore.config import Config

        nowhere = {"profile": None, "config_file": os.devnull, "credentials_file": os.devnull}
        core = botocore.session.Session({name: (None, [], value, None) for name, value in nowhere.items()})
        session: Any = boto3.session.Session(botocore_session=core)
        return session.client(
            service,
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id="test",
            aws_secret_access_key="test",  # noqa: S106 - the stand-in's, worth nothing elsewhere
            config=Config(proxies={}, retries={"mode": "standard", "total_max_attempts": 3}),
        )

    def publish_layer(self, name: str, *distributions: str) -> str:
        """Publish a Lambda layer of packages that are installed here, and return its version's ARN.

        A local Lambda function sees its own zip and what AWS's runtime brings (boto3), as on AWS; this is how it gets
        the rest. The layer refers to the packages instead of holding them, so it is no larger than a line, and AWS's
        limit of 250 MB is not checked.

        Args:
            name: Of the layer.
            distributions: Names of installed distributions, for example ``"pyarrow"``; what they require comes along.

        Raises:
            ConfigurationError: One of them is not installed, or the local AWS does not run.
        """
        from stepout.local.lambda_runtime import layer_zip, link_distributions

        client = self.client("lambda")
        assert self._folder is not None  # noqa: S101 - it is there while it runs
        folder = self._folder / "layers" / secrets.token_hex(8)
        link_distributions(folder, *distributions)
        published = client.publish_layer_version(LayerName=name, Content={"ZipFile": layer_zip(folder)})
        return str(published["LayerVersionArn"])

    def __enter__(self) -> Self:
        if find_spec("ministack") is None:
            raise ConfigurationError(
                'the local AWS needs ministack, which is not installed: install stepout with its extra "local"'
            )
        if self._wanted_port:
            _check_free(self._wanted_port)
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        """End every process and remove every file; safe to call twice."""
        with contextlib.ExitStack() as stack:  # last in, first out, whatever one of them raises
            stack.callback(self._end_janitor)
            stack.callback(self._remove_folder)
            stack.callback(end_marked, self._mark)
            if self._functions is not None:
                stack.callback(self._functions.close)
            if self._server is not None:
                stack.callback(end_group, self._server, grace=0)  # its state goes with it; there is nothing to save
            stack.callback(self._events.close, grace=self._stop_grace)
            if self._agent is not None:
                stack.callback(self._agent.close, grace=self._stop_grace)
        self._port = self._server = None

    def _remove_folder(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = None

    def _end_janitor(self) -> None:
        if self._janitor is None:
            return
        self._tell("done")
        with contextlib.suppress(OSError):
            if self._janitor.stdin is not None:
                self._janitor.stdin.close()
        self._janitor.wait()
        self._janitor = None

    def _start(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="stepout-local-"))
        # The janitor comes first: it cleans up whatever is started from now on, even if this process is killed at once.
        self._janitor = spawn(
            (sys.executable, "-m", "stepout.local.janitor", self._mark, str(self._folder)),
            os.environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        # Another process may take a port between our look at it and the server's bind: then the next one is tried.
        ports = [self._wanted_port] if self._wanted_port else (_free_port() for _ in range(_PORT_TRIES))
        if not any(self._serve(port) for port in ports):
            raise StoreUnavailableError(
                f"the local AWS did not start on port {self._wanted_port or 'any of five that were free'}: "
                f"{self._last_words()}"
            )
        self._watch()

    def _serve(self, port: int) -> bool:
        """Start the server on ``port`` and wait until it answers; ``False`` if it ended or stayed silent."""
        assert self._folder is not None  # noqa: S101 - set by the only caller
        with (self._folder / "server.log").open("ab") as log:
            self._server = spawn(
                (sys.executable, "-m", "stepout.local.server"), self._server_environment(port), stdout=log
            )
        self._tell(f"+{self._server.pid}")
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self._server.poll() is None:
            if _healthy(port):
                self._port = port
                return self._server.poll() is None
            time.sleep(0.02)
        end_group(self._server, grace=0)
        self._tell(f"-{self._server.pid}")
        return False

    def _server_environment(self, port: int) -> dict[str, str]:
        assert self._folder is not None  # noqa: S101 - set before the server starts
        state = self._folder / "server"
        state.mkdir(exist_ok=True)
        return {
            **clean_environment(os.environ),
            "GATEWAY_PORT": str(port),
            "BIND_HOST": "127.0.0.1",
            "MINISTACK_HOST": "127.0.0.1",
            "MINISTACK_REGION": self.region,
            "MINISTACK_ACCOUNT_ID": _ACCOUNT,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "STATE_DIR": str(state),
            "S3_DATA_DIR": str(state / "s3"),
            "TMPDIR": str(state),
            "PERSIST_STATE": "0",
            "LAMBDA_EXECUTOR": "local",
            # A Docker daemon must not run the tasks a second time, nor lose its containers to ministack's reaper.
            "DOCKER_HOST": f"unix://{state / 'no-docker.sock'}",
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            "LOG_LEVEL": "WARNING",
            "NO_PROXY": "127.0.0.1,localhost",
            "STEPOUT_S3_PROFILE": "compatible",
            MARKER: self._mark,
        }

    def _watch(self) -> None:
        from stepout.local.ecs import EcsAgent
        from stepout.local.function_log import FILE, FunctionLog

        assert self._folder is not None  # noqa: S101 - set before the agent starts
        path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
        self._agent = EcsAgent(
            self.client("ecs"),
            self.client("stepfunctions"),
            environ={**clean_environment(os.environ), "PATH": path, **self.environ},
            folder=self._folder / "tasks",
            mark=self._mark,
            on_line=self._on_output,
            on_group=self._tell,
            on_change=self._changed,
        )
        self._agent.start()
        self._functions = FunctionLog(self._folder / "server" / FILE, self._on_output)
        self._functions.start()

    def _changed(self, task: LocalTask, described: Mapping[str, Any]) -> None:
        self._events.deliver(task_state_change(task, described, account=_ACCOUNT, region=self.region))

    def _tell(self, word: str) -> None:
        """Write a line to the janitor; one that died is no reason to fail."""
        with self._lock, contextlib.suppress(OSError, ValueError):
            if self._janitor is not None and self._janitor.stdin is not None:
                self._janitor.stdin.write(f"{word}\n".encode())
                self._janitor.stdin.flush()

    def _last_words(self) -> str:
        assert self._folder is not None  # noqa: S101 - set before the server starts
        text = (self._folder / "server.log").read_text("utf-8", "replace").strip()
        return text[-1_000:] or "it printed nothing"


def _log_line(container: str, line: str) -> None:
    _logger.info("[%s] %s", container, line)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _check_free(port: int) -> None:
    """Raise ``StoreUnavailableError`` for a port that is taken: another local AWS there would answer in our place."""
    with socket.socket() as probe:
        if sys.platform != "win32":  # there it would let two listen; here it forgives connections that have just ended
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            why = "is in use" if taken else f"cannot be used: {error.strerror}"
            raise StoreUnavailableError(
                f"the local AWS did not start: port {port} {why}; choose another, or leave it out for a free one"
            ) from None


def _healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/_ministack/health")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()

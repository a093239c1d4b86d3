"""Whole processes, from a fresh interpreter to its end: a container's first artifact, a Lambda's first call.

They start without ``site``, so that no ``.pth`` file of a development environment imports anything beforehand. A
Lambda's calls are in AWS's own runtime client (``awslambdaric``), which loads ``json``, ``logging`` and more before it
loads the handler; the Runtime API that it asks for events is played by this process.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import queue
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import TYPE_CHECKING, Any

from benchmarks.job import BUCKET, children_cpu
from benchmarks.measure import ROOT, child_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CONTAINER", "DOWN", "LAMBDA", "READ", "UP", "credentials_endpoint", "run_handler", "run_script"]

_HEAD = "import json, sys\njob = json.loads(sys.argv[1])\n"
_CHECK = "import hashlib\nassert hashlib.sha256(data).hexdigest() == job['sha256']\n"
_NO_EXTRA = "sys.modules.update(awscrt=None, obstore=None)\n"
_ARTIFACT = (
    "import stepout\nartifact = stepout.resolve_artifact(job['pointer'], allow=['s3://' + job['bucket'] + '/'])\n"
)
_RESOLVE = f"{_ARTIFACT}artifact.read_bytes()\n"

_BARE = """
import hashlib, hmac, os, socket, time

def ask(url, head):
    scheme, _, rest = url.partition("://")
    host = rest.partition("/")[0]
    sock = socket.create_connection((host.partition(":")[0], int(host.partition(":")[2])))
    if scheme == "https":
        import ssl
        context = ssl.create_default_context(cafile=os.environ["AWS_CA_BUNDLE"])
        sock = context.wrap_socket(sock, server_hostname=host.partition(":")[0])
    sock.sendall(f"GET /{rest.partition('/')[2]} HTTP/1.1\\r\\nHost: {host}\\r\\n{head}\\r\\n".encode())
    got = b""
    while b"\\r\\n\\r\\n" not in got:
        got += sock.recv(65536)
    lines, _, body = got.partition(b"\\r\\n\\r\\n")
    size = next(int(line[15:]) for line in lines.split(b"\\r\\n") if line[:15].lower() == b"content-length:")
    while len(body) < size:
        body += sock.recv(65536)
    return body

def signed(url, access_key, secret, token):
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    host, _, path = url.partition("://")[2].partition("/")
    sent = {"x-amz-content-sha256": hashlib.sha256().hexdigest(), "x-amz-date": stamp}
    if token:
        sent["x-amz-security-token"] = token
    names = ";".join(["host", *sent])
    lines = "".join(f"{name}:{value}\\n" for name, value in [("host", host), *sent.items()])
    request = f"GET\\n/{path}\\n\\n{lines}\\n{names}\\n{sent['x-amz-content-sha256']}"
    scope = f"{stamp[:8]}/us-east-1/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\\n{stamp}\\n{scope}\\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    sent["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    return "".join(f"{name}: {value}\\r\\n" for name, value in sent.items())

def fetched(job):
    keys = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY"), None
    if not keys[0]:
        found = json.loads(ask(os.environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"], "Accept: application/json\\r\\n"))
        keys = found["AccessKeyId"], found["SecretAccessKey"], found["Token"]
    url = f"{job['endpoint']}/{job['bucket']}/{job['key']}"
    data = ask(url, signed(url, *keys))
    assert len(data) == job["size"] and hashlib.sha256(data).hexdigest() == job["sha256"]
    return data
"""

_OBSTORE = (
    "import os, obstore\n"
    "from obstore.store import S3Store\n"
    "store = S3Store(job['bucket'], endpoint=job['endpoint'], region='us-east-1',\n"
    "    client_options={'allow_http': True})\n"
    "data = memoryview(obstore.get(store, job['key']).bytes())\n"
)
_BOTO3 = "import boto3\nclient = boto3.client('s3', endpoint_url=job['endpoint'])\n"
_GET = "data = client.get_object(Bucket=job['bucket'], Key=job['key'])['Body'].read()\n"

READ = {
    "bare interpreter": "",
    "bare sockets": _HEAD + _BARE + "fetched(job)\n",
    "boto3": _HEAD + _BOTO3 + _GET + _CHECK,
    "botocore alone": _HEAD + "import botocore.session\n"
    "client = botocore.session.get_session().create_client('s3', endpoint_url=job['endpoint'])\n" + _GET + _CHECK,
    "obstore": _HEAD + _OBSTORE + _CHECK,
    "s3fs": _HEAD + "import s3fs\n"
    "filesystem = s3fs.S3FileSystem(client_kwargs={'endpoint_url': job['endpoint']})\n"
    "data = filesystem.cat_file(job['bucket'] + '/' + job['key'])\n" + _CHECK,
    "import stepout": "import stepout\n",
    "stepout": _HEAD + _RESOLVE,
    "stepout, no extra": _HEAD + _NO_EXTRA + _RESOLVE,
}
"""A small object, read and verified."""

CONTAINER = {name: READ[name] for name in ("bare interpreter", "bare sockets", "boto3", "stepout", "stepout, no extra")}
"""The same where a container's endpoint has the credentials."""

_HANDLER = "def handler(job, context):\n"
_HANDLE = (
    f"import stepout\n{_HANDLER}    data = stepout.resolve_output(job, allow=['s3://' + job['bucket'] + '/'])['x']"
    ".read_bytes()\n    assert len(data) == job['size']\n"
)

LAMBDA = {
    "bare runtime": f"{_HANDLER}    pass\n",
    "bare sockets": f"import json\n{_BARE}{_HANDLER}    fetched(job)\n",
    "boto3": f"import boto3, hashlib\n{_HANDLER}    client = boto3.client('s3', endpoint_url=job['endpoint'])\n"
    f"    {_GET}    assert hashlib.sha256(data).hexdigest() == job['sha256']\n",
    "stepout": _HANDLE,
    "stepout, no extra": f"import sys\n{_NO_EXTRA}{_HANDLE}",
}
"""The same as handlers of a Lambda function: from the runtime's start to the answer to its first event."""

_MANAGER = "import stepout\nmanager = stepout.ArtifactManager(job['bucket'], prefix='runs')\n"
_HASHED = (
    "import base64, hashlib, pathlib\ndata = pathlib.Path(job['path']).read_bytes()\n"
    "digest = base64.b64encode(hashlib.sha256(data).digest()).decode()\n"
)

UP = {
    "bare interpreter": "",
    "boto3": _HEAD + _BOTO3 + "import hashlib\n"
    "with open(job['path'], 'rb') as file: hashlib.file_digest(file, 'sha256')\n"
    "client.upload_file(job['path'], job['bucket'], job['out'])\n",
    "boto3 put_object": _HEAD
    + _BOTO3
    + _HASHED
    + "client.put_object(Bucket=job['bucket'], Key=job['out'], Body=data,\n"
    "    ChecksumSHA256=digest, IfNoneMatch='*')\n",
    "stepout": _HEAD + _MANAGER + "manager.put_file('first', job['path'])\n",
    "stepout put_bytes": _HEAD + _MANAGER + "data = open(job['path'], 'rb').read()\nmanager.put_bytes('first', data)\n",
    "stepout, no extra": _HEAD + _NO_EXTRA + _MANAGER + "manager.put_file('first', job['path'])\n",
}
"""The first file of a process, its SHA-256 known in the end."""

DOWN = {
    "bare interpreter": "",
    "boto3": _HEAD + _BOTO3 + "client.download_file(job['bucket'], job['key'], job['out'])\nimport hashlib\n"
    "with open(job['out'], 'rb') as file: assert hashlib.file_digest(file, 'sha256').hexdigest() == job['sha256']\n",
    "boto3 get_object": _HEAD + _BOTO3 + _GET + _CHECK,
    "stepout": _HEAD + _ARTIFACT + "artifact.download(job['out'])\n",
    "stepout read_bytes": _HEAD + _RESOLVE,
    "stepout, no extra": _HEAD + _NO_EXTRA + _ARTIFACT + "artifact.download(job['out'])\n",
}
"""The first object of a process to a file, verified."""


def run_script(  # noqa: PLR0913 - keyword-only
    script: str,
    endpoint: str,
    *,
    key: str,
    size: int,
    sha256: str,
    authority: str | None = None,
    credentials: str | None = None,
    path: Path | None = None,
    out: Path | None = None,
) -> dict[str, Any]:
    """Run a script from start to exit; wall and CPU seconds of the whole process.

    Args:
        script: Its text.
        endpoint: Where S3 is.
        key: The object that is read.
        size: Its size, in bytes.
        sha256: Its checksum, hex.
        authority: What to trust, for HTTPS.
        credentials: The endpoint that gives credentials; ``None``: they are in the environment.
        path: The file to send.
        out: The file to write; it goes away afterwards. For an upload, its name is the key.
    """
    job = _job(endpoint, key, size, sha256) | {"path": str(path or ""), "out": str(out or f"runs/{time.time_ns()}")}
    environment = _environment(endpoint, authority, credentials)
    before, start = children_cpu(), time.perf_counter()
    run = subprocess.run(
        [sys.executable, "-S", "-c", script, json.dumps(job)],
        env=environment, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    wall, cpu = time.perf_counter() - start, children_cpu() - before
    if out is not None:
        out.unlink(missing_ok=True)
    if run.returncode:
        last = run.stderr.strip().splitlines()[-1:] or ["no message"]
        kind = "skipped" if "ModuleNotFoundError" in last[0] else "failed"
        return {kind: last[0], "log": run.stderr[-2000:]}
    return {"wall": wall, "cpu": cpu, "memory": None}


def _job(endpoint: str, key: str, size: int, sha256: str) -> dict[str, Any]:
    pointer = {"stepout": "pointer/1", "bucket": BUCKET, "key": key, "size": size, "checksum": {"sha256": sha256}}
    pointer["mediaType"] = "application/octet-stream"
    return {"endpoint": endpoint, "bucket": BUCKET, "key": key, "size": size, "sha256": sha256, "pointer": pointer}


def _environment(endpoint: str, authority: str | None, credentials: str | None, *folders: str) -> dict[str, str]:
    libraries = [*folders, str(ROOT / "src"), *{sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}]
    found = {
        **child_environment(authority),
        "AWS_ENDPOINT_URL": endpoint,
        "PYTHONPATH": os.pathsep.join(libraries),
    }
    if credentials is not None:
        del found["AWS_ACCESS_KEY_ID"], found["AWS_SECRET_ACCESS_KEY"]
        found["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = credentials
    return found


def run_handler(  # noqa: PLR0913 - keyword-only
    text: str,
    endpoint: str,
    *,
    key: str,
    size: int,
    sha256: str,
    authority: str | None = None,
    credentials: str | None = None,
) -> dict[str, Any]:
    """Run a handler in AWS's runtime client for one event: wall seconds to its answer, CPU seconds of the process.

    Args:
        text: The module with the handler; its event is a task output with one artifact, and what a script is told.
        endpoint: As for ``run_script``, as are the others.
        key: The object that is read.
        size: Its size, in bytes.
        sha256: Its checksum, hex.
        authority: What to trust, for HTTPS.
        credentials: The endpoint that gives credentials; ``None``: they are in the environment.
    """
    client = importlib.util.find_spec("awslambdaric")
    if client is None or client.origin is None:
        return {"skipped": "ModuleNotFoundError: No module named 'awslambdaric'"}
    event = _job(endpoint, key, size, sha256)
    event["output"] = {"stepout": "output/1", "artifacts": {"x": event.pop("pointer")}, "result": {}}
    with TemporaryDirectory() as folder, _RuntimeApi(event) as api, TemporaryFile("w+") as log:
        Path(folder, "function.py").write_text(text, encoding="utf-8")
        environment = _environment(endpoint, authority, credentials, folder, str(Path(client.origin).parents[1]))
        environment |= {"AWS_LAMBDA_RUNTIME_API": api.address, "AWS_LAMBDA_FUNCTION_NAME": "function"}
        before, start = children_cpu(), time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-S", "-m", "awslambdaric", "function.handler"],
            env=environment, cwd=folder, stdout=log, stderr=log,
        )  # fmt: skip
        try:
            failure = api.answered(process)
            wall = time.perf_counter() - start
        finally:
            process.kill()  # it waits for a second event
            process.wait()
        log.seek(0)
        if failure is not None:
            kind = "skipped" if "ModuleNotFoundError" in failure else "failed"
            return {kind: failure, "log": log.read()[-2000:]}
        return {"wall": wall, "cpu": children_cpu() - before, "memory": None}


class _RuntimeApi(ThreadingHTTPServer):
    """Lambda's Runtime API for one event: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html.

    Who asks for a second event waits for it until the block ends.
    """

    def __init__(self, event: dict[str, Any]) -> None:
        super().__init__(("127.0.0.1", 0), _RuntimeCalls)
        self.address = f"127.0.0.1:{self.server_address[1]}"
        self.events: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.events.put(json.dumps(event).encode())
        self.answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def answered(self, process: subprocess.Popen[bytes]) -> str | None:
        """Wait for the answer of a process; ``None``, or the error that it reported."""
        for _ in range(300):
            ended = process.poll() is not None  # asked first: it may answer, and then end
            with contextlib.suppress(queue.Empty):
                return self.answers.get(timeout=1)
            if ended:
                break
        return "no answer"

    def handle_error(self, *_: object) -> None:
        """Say nothing: who waited for a second event has been ended."""

    def __exit__(self, *found: object) -> None:
        self.events.put(b"")
        self.shutdown()
        super().__exit__(*found)


class _RuntimeCalls(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _RuntimeApi

    def do_GET(self) -> None:
        """``invocation/next``."""
        event = self.server.events.get()
        said = {
            "Content-Type": "application/json",
            "Lambda-Runtime-Aws-Request-Id": "1",
            "Lambda-Runtime-Deadline-Ms": str(round((time.time() + 60) * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-1:123456789012:function:function",
            "Lambda-Runtime-Trace-Id": "Root=1-00000000-000000000000000000000000;Sampled=0",
        }
        with contextlib.suppress(OSError):  # who waited for a second one is gone
            self._send(200, event, said)

    def do_POST(self) -> None:
        """``invocation/1/response``, ``invocation/1/error``, ``init/error``."""
        said = self.rfile.read(int(self.headers["Content-Length"]))
        error = json.loads(said) if self.path.endswith("/error") else None
        self.server.answers.put(None if error is None else f"{error['errorType']}: {error['errorMessage']}")
        with contextlib.suppress(OSError):
            self._send(202, b"", {})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def credentials_endpoint() -> Iterator[str]:
    """Run what a container's platform runs, in a thread: it answers every request at once; its URL."""
    expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 6 * 3600))
    keys = {"AccessKeyId": "benchmark", "SecretAccessKey": "benchmark-secret", "Token": "token" * 200}
    body = json.dumps({**keys, "Expiration": expires}).encode()
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            with sock, contextlib.suppress(OSError):
                sock.recv(65_536)
                sock.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1/credentials"
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)

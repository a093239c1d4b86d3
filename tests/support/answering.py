"""A server that gives prepared answers, for what the stand-ins of AWS never say."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Said", "answering"]


@dataclass(frozen=True)
class Said:
    """One answer: JSON, with a status and headers."""

    document: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@contextmanager
def answering(*answers: Said) -> Iterator[str]:
    """A server that gives these answers in turn to every POST, the last one for ever; its URL."""
    left = list(answers)

    class SaysNext(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            said = left.pop(0) if len(left) > 1 else left[0]
            content = json.dumps(said.document).encode()
            self.send_response(said.status)
            for name, value in {**said.headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as http.server has it
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), SaysNext)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()

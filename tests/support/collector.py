"""A collector of OpenTelemetry in this process: takes what an exporter sends over OTLP/HTTP, and keeps the spans."""

from __future__ import annotations

import contextlib
import gzip
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["SPANS_SENT", "Collector", "Span", "collecting"]

SPANS_SENT = """
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
"""
"""What a program begins with to have the real SDK send its spans to ``OTEL_EXPORTER_OTLP_ENDPOINT``."""


@dataclass(frozen=True)
class Span:
    """One span, as it arrived; ids in hexadecimal."""

    name: str
    trace: str
    id: str
    parent: str
    links: tuple[str, ...]
    attributes: dict[str, Any]
    failed: bool
    events: tuple[str, ...]


@dataclass
class Collector:
    """Where to send to, the spans by name in the order of their ends, and every body as it came."""

    endpoint: str
    spans: list[Span] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    def named(self, name: str) -> Span:
        """Return the one span of that name."""
        (found,) = (span for span in self.spans if span.name == name)
        return found

    def take(self, body: bytes) -> None:
        """Take a request."""
        self.bodies.append(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.spans += [_span(each) for scope in resource.scope_spans for each in scope.spans]


def _span(each: Any) -> Span:
    values = {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in each.attributes}
    return Span(
        name=each.name,
        trace=each.trace_id.hex(),
        id=each.span_id.hex(),
        parent=each.parent_span_id.hex(),
        links=tuple(link.span_id.hex() for link in each.links),
        attributes=values,
        failed=each.status.code == each.status.STATUS_CODE_ERROR,
        events=tuple(event.name for event in each.events),
    )


@contextlib.contextmanager
def collecting() -> Iterator[Collector]:
    """Run a collector while the block runs."""

    class TakesSpans(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            """Take a request of an exporter."""
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.take(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), TakesSpans) as server:
        collector = Collector(f"http://127.0.0.1:{server.server_address[1]}")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield collector
        server.shutdown()

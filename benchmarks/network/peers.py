"""The peers as their documentation advises users who are not on loopback.

AWS's guide to S3's performance (whitepaper "Best Practices Design Patterns: Optimizing Amazon S3 Performance") says:
many connections at once, ranges of 8 or 16 MiB. So everybody has 20 to 32 connections where that can be set:

- boto3: ``TransferConfig(max_concurrency=…)``, "increase or decrease bandwidth usage" (docs.aws.amazon.com/boto3,
  guide "S3", "Concurrent transfer operations"; the default is 10 threads and parts of 8 MiB).
- boto3 on the Common Runtime: ``target_throughput`` in bytes per second (docstring of
  ``s3transfer.crt.create_s3_crt_client``; it decides how many connections there are).
- s5cmd: ``--concurrency`` and ``--part-size`` (``s5cmd cp --help``; the defaults are 5 and 50 MiB).
- obstore: ``chunk_size=`` and ``max_concurrency=`` of ``put`` (its reference; the defaults are 5 MiB and 12). It has no
  parallel download of one object; ``get_range`` in threads is what its users write.
- pyarrow: ``set_io_thread_count`` (arrow.apache.org/docs/python; the default is 8; parts have 10 MiB), and ``read_at``
  in threads.

Payloads are signed where the peer does so by default; a server can check everybody's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["OURS", "PEERS", "Contender"]

MIB = 1 << 20
GBIT = 10**9 // 8


@dataclass(frozen=True)
class Contender:
    """Somebody with settings.

    Attributes:
        label: Name in the report.
        peer: Name in ``peers.TRANSFERS``.
        options: What it is told.
    """

    label: str
    peer: str
    options: dict[str, Any] = field(default_factory=dict)


PEERS = (
    Contender("boto3", "boto3"),
    Contender("boto3, 20 threads", "boto3", {"connections": 20, "part_size": 8 * MIB}),
    Contender("boto3 CRT, 25 Gbit/s", "boto3 CRT", {"throughput": 25 * GBIT}),
    Contender("s5cmd, 20 × 8 MiB", "s5cmd", {"connections": 20, "part_size": 8 * MIB}),
    Contender("obstore", "obstore"),
    Contender("obstore, 24 × 8 MiB", "obstore", {"connections": 24, "part_size": 8 * MIB}),
    Contender("pyarrow, 32 threads", "pyarrow", {"connections": 32, "part_size": 8 * MIB}),
)

OURS = (
    Contender("stepout", "stepout", {"mode": "overwrite"}),
    Contender("stepout, 64 MiB", "stepout", {"mode": "overwrite", "granted": 512}),
)
"""The second is in a container of 512 MiB, of which a transfer takes 64.

As on AWS: other servers are tried out before the first write-once upload of a process, which takes 8 round trips.
Nobody else writes once."""

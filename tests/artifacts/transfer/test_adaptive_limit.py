"""How many parts may be on their way: it follows what the server and the parts have shown, up and down."""

from __future__ import annotations

import threading
import time
from typing import Any

from stepout.artifacts.memory import MemoryStore
from stepout.artifacts.servers import ServerState
from stepout.artifacts.store import PartReceipt, WriteOptions
from stepout.artifacts.transfer.adaptive_limit import AdaptiveLimit, learned_limits, learned_single_limit
from stepout.artifacts.transfer.plan import MIB, SenderLimits, TransferSettings
from stepout.artifacts.transfer.upload import Upload
from stepout.schemas.errors import StoreUnavailableError

SETTINGS = TransferSettings(memory=256 * MIB)
TOTAL = 1024 * MIB


def _plan(server: ServerState) -> SenderLimits:
    return learned_limits(TOTAL, SETTINGS, 32, False, server)


def _known(latency: float, rate: float | None = None) -> ServerState:
    server = ServerState()
    server.saw_latency(latency)
    if rate is not None:
        server.saw_upload(int(rate), 1.0)
    return server


def test_a_server_that_nobody_knows_gets_few_until_it_answers() -> None:
    """Or until it takes so long that it must be far away."""
    limit = AdaptiveLimit(_plan, ServerState())
    assert limit.far is None
    few = limit.now
    limit.still_waits()
    assert few < limit.now
    limit.answers(far=False)
    assert limit.now == few


def test_a_server_that_is_known_to_be_far_gets_all_from_the_start() -> None:
    """The process has spoken to it before."""
    limit = AdaptiveLimit(_plan, _known(0.05, 80e6))
    assert limit.far
    assert limit.now == _plan(_known(0.05, 80e6)).far > _plan(ServerState()).first


def test_slow_connections_become_more_of_them() -> None:
    """Once some parts have shown what each brings; the plan was made for an unknown rate."""
    server = _known(0.05)
    limit = AdaptiveLimit(_plan, server)
    limit.answers(far=True)
    before = limit.now
    for _ in range(4):
        server.saw_upload(20 * MIB, 1.0)
        limit.part_arrived()
    assert before < limit.now == 32


def test_fast_connections_stay_few() -> None:
    """On a near server more of them only cost."""
    server = _known(0.001)
    limit = AdaptiveLimit(_plan, server)
    limit.answers(far=False)
    before = limit.now
    for _ in range(20):
        server.saw_upload(500 * MIB, 1.0)
        limit.part_arrived()
    assert limit.now == before


def test_who_gets_nothing_through_makes_the_limit_fall_and_answers_raise_it_slowly() -> None:
    """Behind a proxy of four connections it stays near four; after a passing fault it comes back."""
    limit = AdaptiveLimit(lambda _: SenderLimits(first=8, near=8, far=8), _known(0.05))
    limit.answers(far=True)
    for senders in (8, 7, 6, 5):
        limit.refused(senders)
    assert limit.now == 4
    for _ in range(7):
        limit.part_arrived()
    assert limit.now == 4
    limit.part_arrived()
    assert limit.now == 5


def test_the_last_sender_stays() -> None:
    """Its error is the upload's."""
    limit = AdaptiveLimit(_plan, ServerState())
    limit.refused(1)
    assert limit.now == 1


def test_a_body_goes_out_as_one_request_where_parts_would_not_be_faster() -> None:
    """The farther a server is, the larger; where nothing is known, as large as the first part of a stream."""
    unknown, near, far, farther = (
        learned_single_limit(SETTINGS, 32, server)
        for server in (ServerState(), _known(0.001, 80e6), _known(0.05, 80e6), _known(0.2, 80e6))
    )
    assert unknown == near == SETTINGS.ladder[0]
    assert near < far < farther


class Granting(MemoryStore):
    """A store behind a proxy that lets so many requests through at once, and refuses the others."""

    def __init__(self, connections: int) -> None:
        super().__init__("proxied")
        self._free = threading.Semaphore(connections)
        self.refused = 0

    def put_part(self, key: str, upload: str, number: int, body: Any, *, checksum: str) -> PartReceipt:
        """Take a part, if a connection is free."""
        if not self._free.acquire(blocking=False):
            self.refused += 1
            raise StoreUnavailableError("the connection was refused")
        try:
            time.sleep(0.02)  # so that others find it taken
            return super().put_part(key, upload, number, body, checksum=checksum)
        finally:
            self._free.release()


def test_an_upload_behind_a_proxy_of_four_connections_goes_on_with_those() -> None:
    """Who is refused leaves its part to the others, however often: no part fails for want of a connection."""
    store = Granting(4)
    settings = TransferSettings(memory=64 * MIB, part_size=5 * MIB, connections=32)
    data = bytes(5 * MIB)
    upload = Upload(store, "key", options=WriteOptions(), settings=settings)
    for _ in range(40):
        upload.write(data)
    upload.commit()
    assert store.refused
    assert len(store.read("key")) == 200 * MIB

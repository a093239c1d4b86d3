"""How many parts may be on their way: it follows what the server and the parts have shown, up and down."""

from __future__ import annotations

import threading
from typing import Any

from stepout.artifacts.memory import MemoryStore
from stepout.artifacts.process.servers import ServerState
from stepout.artifacts.store_writes import PartReceipt, WriteOptions
from stepout.artifacts.transfer.adaptive_limit import AdaptiveLimit, learned_limit, learned_single_limit
from stepout.artifacts.transfer.plan import MIB, TransferSettings
from stepout.artifacts.transfer.upload import Upload
from stepout.schemas.errors import StoreUnavailableError

SETTINGS = TransferSettings(memory=256 * MIB)
TOTAL = 1024 * MIB


def _plan(server: ServerState) -> int:
    return learned_limit(TOTAL, SETTINGS, 32, False, server)


def _known(latency: float, rate: float | None = None) -> ServerState:
    server = ServerState()
    server.saw_latency(latency)
    if rate is not None:
        server.saw_upload(int(rate), 1.0)
    return server


def test_a_server_that_nobody_knows_gets_many_from_the_start() -> None:
    """And more once its first answer shows that it is far away."""
    server = ServerState()
    limit = AdaptiveLimit(_plan, server)
    assert limit.now == 16
    server.saw_latency(0.1)
    limit.began()
    assert limit.now == _plan(_known(0.1)) > 16


def test_slow_connections_become_more_of_them() -> None:
    """Once some parts have shown what each brings; the plan was made for an unknown rate."""
    server = _known(0.05)
    limit = AdaptiveLimit(_plan, server)
    limit.began()
    before = limit.now
    for _ in range(4):
        server.saw_upload(20 * MIB, 1.0)
        limit.part_arrived()
    assert before < limit.now == 32


def test_fast_connections_stay_few() -> None:
    """On a near server more of them only cost."""
    server = _known(0.001, 500e6)
    limit = AdaptiveLimit(_plan, server)
    before = limit.now
    for _ in range(20):
        server.saw_upload(500 * MIB, 1.0)
        limit.part_arrived()
    assert limit.now == before


def test_connections_that_show_themselves_as_near_and_fast_become_few_for_good() -> None:
    """Nobody knew the server; once parts have shown it, fewer connections do the same for less."""
    server = ServerState()
    limit = AdaptiveLimit(_plan, server)
    server.saw_latency(0.001)
    limit.began()
    assert limit.now == 16
    for _ in range(4):
        server.saw_upload(8 * MIB, 0.02)
        limit.part_arrived()
    assert limit.now < 16
    few = limit.now
    for _ in range(100):
        server.saw_upload(8 * MIB, 0.2)
        limit.part_arrived()
    assert limit.now == few


def test_who_gets_nothing_through_makes_the_limit_fall_and_answers_raise_it_slowly() -> None:
    """Behind a proxy of four connections it stays near four; after a passing fault it comes back."""
    limit = AdaptiveLimit(lambda _: 8, _known(0.05))
    limit.began()
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
        self.refused = threading.Event()

    def put_part(self, key: str, upload: str, number: int, body: Any, *, checksum: str) -> PartReceipt:
        """Take a part, if a connection is free."""
        if not self._free.acquire(blocking=False):
            self.refused.set()
            raise StoreUnavailableError("the connection was refused")
        try:
            assert self.refused.wait(60)  # until others have found it taken
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
    assert len(store.read("key")) == 200 * MIB

"""Whose a part is: the one that has its tries, those who ask for it once more, and what each of them waits for."""

from __future__ import annotations

import itertools
import os
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from stepout.artifacts.memory import MemoryStore
from stepout.artifacts.process.pace import waiting
from stepout.artifacts.store_writes import WriteOptions
from stepout.artifacts.transfer.plan import MIB, TransferSettings
from stepout.artifacts.transfer.upload import Upload
from stepout.schemas.errors import StoreError, StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stepout.artifacts.store_writes import PartReceipt

PARTS = 6
DATA = os.urandom(PARTS * 5 * MIB - 3)
SETTINGS = TransferSettings(memory=64 * MIB, part_size=5 * MIB, connections=PARTS)

pytestmark = pytest.mark.usefixtures("impatient")


class Scripted(MemoryStore):
    """Does something before each request for the first part, by its number; the other parts wait for the first one."""

    def __init__(self, *acts: Callable[[], object]) -> None:
        super().__init__("bucket")
        self._acts = acts
        self.begun = [threading.Event() for _ in range(12)]
        self._count = 0
        self._counting = threading.Lock()

    def put_part(self, key: str, upload: str, number: int, body: Sequence[memoryview], *, checksum: str) -> PartReceipt:
        """See above."""
        if number == 1:
            with self._counting:
                self._count, mine = self._count + 1, self._count
            self.begun[mine].set()
            if mine < len(self._acts):
                self._acts[mine]()
        else:
            assert self.begun[0].wait(60)
        return super().put_part(key, upload, number, body, checksum=checksum)


def _broken() -> None:
    raise StoreUnavailableError("broken")


def _upload(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> Upload:
    """Return an upload whose first part is late once all others have arrived."""
    ticks, jumped = itertools.count(), threading.Event()

    def monotonic() -> float:
        return next(ticks) * 1e-6 + 100_000 * jumped.is_set()

    def progress(sent: int, _: int | None) -> None:
        if sent >= len(DATA) - 5 * MIB:
            jumped.set()

    monkeypatch.setattr("stepout.artifacts.transfer.multipart._IDLE_SECONDS", 1e6)  # nobody leaves at the jump
    monkeypatch.setattr(
        "stepout.artifacts.transfer.multipart.time",
        SimpleNamespace(monotonic=monotonic, perf_counter=time.perf_counter, thread_time=time.thread_time),
    )
    return Upload(store, "key", options=WriteOptions(), settings=SETTINGS, progress=progress)


def test_a_part_that_is_handed_over_keeps_its_tries_beside_a_second_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever takes it over may fail as often as its first sender might; so may the second request, in between."""

    def first() -> None:
        assert store.begun[1].wait(60)  # until it is asked for a second time
        _broken()

    def second() -> None:
        assert store.begun[3].wait(60)  # until another sender has it
        ended.set()
        _broken()

    def handed_over() -> None:
        assert ended.wait(60)
        _broken()

    ended = threading.Event()
    store = Scripted(first, second, _broken, handed_over, _broken)
    _upload(store, monkeypatch).send_buffer(DATA)
    assert store.read("key") == DATA


def test_a_second_request_that_fails_while_the_part_waits_for_another_sender_ends_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The part is in the queue with its tries, while nobody is at work on it."""

    def first() -> None:
        assert store.begun[1].wait(60)
        _broken()

    def second() -> None:
        assert store.begun[2].wait(60)
        time.sleep(0.2)
        _broken()

    store = Scripted(first, second, _broken)
    _upload(store, monkeypatch).send_buffer(DATA)
    assert store.read("key") == DATA


class Slowed(MemoryStore):
    """Waits for a turn before the first part is sent, as a store does whose server asks for fewer requests."""

    def __init__(self) -> None:
        super().__init__("bucket")
        self.waits = threading.Event()
        self.sent = 0
        self.ended = threading.Event()

    def put_part(self, key: str, upload: str, number: int, body: Sequence[memoryview], *, checksum: str) -> PartReceipt:
        """See above."""
        wait, until = waiting.how
        assert until < float("inf")
        self.waits.set()
        try:
            wait(60)
        except BaseException:
            self.ended.set()
            raise
        self.sent += 1
        return super().put_part(key, upload, number, body, checksum=checksum)


def test_an_abort_ends_the_wait_of_a_part_for_its_turn() -> None:
    """Nothing is sent any more, and nobody waits for what was not sent."""
    store = Slowed()
    upload = Upload(store, "key", options=WriteOptions(), settings=SETTINGS)
    raised: list[StoreError] = []

    def send() -> None:
        try:
            upload.send_buffer(DATA)
        except StoreError as error:
            raised.append(error)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    assert store.waits.wait(60)
    upload.abort()
    thread.join(60)
    assert store.ended.is_set()
    assert raised
    assert store.sent == 0
    assert store.open_uploads == []

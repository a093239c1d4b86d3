"""Which address of a name is tried when, and what is learned of each."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.bad_networks import Blackhole, has_ipv6

from stepout.artifacts.s3.connections.addresses import STAGGER_SECONDS, Address, AddressBook, Connecting

if TYPE_CHECKING:
    from collections.abc import Iterator

V4, V6 = socket.AF_INET, socket.AF_INET6
A, B, C = (Address(V4, ("192.0.2.1", 443 + n)) for n in range(3))
X, Y = (Address(V6, ("2001:db8::1", 443 + n, 0, 0)) for n in range(2))


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Say what time it is."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


@pytest.fixture
def book(clock: Clock) -> AddressBook:
    """Nothing is known."""
    return AddressBook(clock=clock)


@given(st.lists(st.sampled_from([A, B, C, X, Y])), st.lists(st.sampled_from([A, B, C, X, Y])))
def test_no_address_is_lost_or_tried_twice(found: list[Address], failing: list[Address]) -> None:
    """Whatever is known of them."""
    book = AddressBook()
    for each in failing:
        book.failed(each)
    assert sorted(map(str, book.order(found))) == sorted(map(str, set(found)))


def test_what_was_seen_of_many_addresses_is_forgotten_in_time(book: AddressBook, clock: Clock) -> None:
    """A server with thousands of them names a few at a time; a slow one is compared with those of now."""
    for number in range(1000):
        address = Address(V4, ("192.0.2.2", number))
        for _ in range(3):
            book.saw(address, 10, 0.01)
        book.failed(address)
        clock.now += 10
    assert len(book._seen) <= 40
    assert len(book._dead) <= 40
    for _ in range(3):
        book.saw(A, 10, 1.0)
    assert book.is_slow(A)


def test_families_take_turns_from_the_one_that_the_system_prefers(book: AddressBook) -> None:
    """As RFC 8305, section 4, has it."""
    assert book.order([X, Y, A, B]) == [X, A, Y, B]
    assert book.order([A, B, X]) == [A, X, B]


def test_the_family_that_connected_last_is_first_for_a_while(book: AddressBook, clock: Clock) -> None:
    """Ten minutes."""
    book.opened(A)
    assert book.order([X, Y, A, B]) == [B, X, A, Y]
    clock.now += 601
    assert book.order([X, Y, A, B])[0] == X


def test_connections_are_spread(book: AddressBook) -> None:
    """The address with the fewest is first."""
    for _ in range(6):
        book.opened(book.order([A, B, C])[0])
    assert book.order([A, B, C]) == [A, B, C]
    book.closed(C)
    assert book.order([A, B, C])[0] == C


def test_an_address_that_failed_is_last_for_a_minute(book: AddressBook, clock: Clock) -> None:
    """Behind the other family, too; it is still tried."""
    book.failed(A)
    assert book.order([A, B, X]) == [B, X, A]
    clock.now += 61
    assert book.order([A, B, X])[0] == A


@pytest.mark.parametrize(("size", "usual", "slow"), [(1000, 0.03, 0.6), (8 << 20, 0.1, 4.0)])
def test_an_address_that_is_much_slower_than_the_others_is_last(
    book: AddressBook, clock: Clock, size: int, usual: float, slow: float
) -> None:
    """Short requests by their time, long ones by their rate; after a minute without requests it is tried anew."""
    for _ in range(3):
        assert not book.is_slow(A)
        book.saw(A, size, slow)
        book.saw(B, size, usual)
    assert book.is_slow(A)
    assert not book.is_slow(B)
    assert book.order([A, B]) == [B, A]
    clock.now += 61
    assert not book.is_slow(A)
    assert book.order([A, B]) == [A, B]


def test_one_address_alone_is_never_slow(book: AddressBook) -> None:
    """There is nothing to compare it with."""
    for _ in range(9):
        book.saw(A, 10, 9.0)
    assert not book.is_slow(A)


def test_small_differences_are_not_slowness(book: AddressBook) -> None:
    """Four times as long is nothing as long as it is milliseconds."""
    for _ in range(9):
        book.saw(A, 10, 0.004)
        book.saw(B, 10, 0.001)
    assert not book.is_slow(A)


# Connections ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[Address]:
    """Somebody who answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield Address(V4, listener.getsockname())


@pytest.fixture
def nobody() -> Address:
    """Nobody listens there."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return Address(V4, listener.getsockname())


def _connected(book: AddressBook, addresses: list[Address], **options: Any) -> Address:
    sock, address = Connecting(book, **{"seconds": 60.0, **options}).first(addresses)
    with sock:
        assert sock.getpeername() == address.place
    return address


def test_an_address_that_refuses_is_followed_by_the_next_at_once(server: Address, nobody: Address) -> None:
    """And is not tried first again."""
    book, asked = AddressBook(), list[float]()
    assert _connected(book, [nobody, server]) == server
    assert book.order([nobody, server]) == [server, nobody]
    assert not asked


def test_an_address_that_is_silent_is_overtaken(server: Address) -> None:
    """The attempts overlap: the silent one is still under way as the other one connects."""
    book = AddressBook()
    with Blackhole() as hole:
        silent = Address(hole.family, hole.place)
        assert _connected(book, [silent, server]) == server
        assert book.order([silent, server]) == [server, silent]


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_ipv6_that_goes_nowhere_is_overtaken_and_remembered(server: Address) -> None:
    """The next connection begins with IPv4."""
    book = AddressBook()
    with Blackhole("::1") as hole:
        silent = Address(hole.family, hole.place)
        found = _connected(book, book.order([silent, server]))
        book.opened(found)
        assert found == server
        assert book.order([silent, server])[0] == server


def test_the_error_is_that_of_the_first_who_refused(nobody: Address) -> None:
    """As urllib3 passes it on."""
    with pytest.raises(ConnectionRefusedError):
        Connecting(AddressBook(), seconds=60.0).first([nobody, nobody])


def test_all_attempts_together_end_in_time() -> None:
    """Not one after the other; by a clock of the test's own."""
    clock = Clock()
    with Blackhole() as hole:
        silent = Address(hole.family, hole.place)

        def look() -> None:
            clock.now += STAGGER_SECONDS

        with pytest.raises(TimeoutError):
            Connecting(AddressBook(), seconds=5.0, look=look, clock=clock).first([silent] * 8)
    assert clock.now <= 1000 + 5 + STAGGER_SECONDS


def test_nothing_to_connect_to_is_an_error() -> None:
    """As urllib3 says it."""
    with pytest.raises(OSError, match="no addresses"):
        Connecting(AddressBook(), seconds=5.0).first([])


def test_who_looks_may_end_the_attempts() -> None:
    """And no thread is left, nor a socket."""
    before = set(threading.enumerate())  # some of other tests may be ending

    def look() -> None:
        raise InterruptedError

    with Blackhole() as hole, pytest.raises(InterruptedError):
        Connecting(AddressBook(), seconds=60.0, look=look).first([Address(hole.family, hole.place)])
    assert set(threading.enumerate()) <= before


def test_options_are_set_before_the_connection_is_made(server: Address) -> None:
    """As urllib3 sets them: TCP_NODELAY, and what the client adds."""
    options = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    sock, _ = Connecting(AddressBook(), seconds=60.0, options=options, source=("127.0.0.1", 0)).first([server])
    with sock:
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)

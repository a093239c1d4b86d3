"""What can be received in ranges, as those who receive it see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextlib import AbstractContextManager

    from stepout.artifacts.process.servers import ServerState
    from stepout.artifacts.store import Cancellation
    from stepout.artifacts.transfer.plan import TransferSettings


class RangedObject(Protocol):
    """An object that can be read in ranges."""

    @property
    def size(self) -> int:
        """Size in bytes."""
        ...

    @property
    def version_known(self) -> bool:
        """Whether every further range will be of the same version as the first answer."""
        ...

    @property
    def server(self) -> ServerState:
        """What this process knows of the server that has it."""
        ...

    @property
    def pooled(self) -> int | None:
        """How many connections the client keeps open; ``None`` where it does not say."""
        ...

    @property
    def settings(self) -> TransferSettings | None:
        """How much one read of it may use; ``None``: what suits the process."""
        ...

    def cancellable(self) -> AbstractContextManager[Cancellation]:
        """Let any thread end the requests of this one; see ``Cancels.cancellable``."""
        ...

    def blocks(
        self, start: int = 0, stop: int | None = None, *, lend: Callable[[], memoryview] | None = None
    ) -> Generator[memoryview]:
        """Yield bytes ``start`` to ``stop`` (``None``: the end), in order; ``lend`` as ``Download.blocks`` has it."""
        ...

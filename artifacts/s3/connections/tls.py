"""What TLS adds to connections: authorities, which are trusted, and tickets, which are no answer.

urllib3 reads the file of authorities into a pool's TLS context whenever it connects. All connections of the pool have
that context, and certifi's file takes 25 ms of the processor each time (OpenSSL 3.0). So it is read once.

A TLS 1.3 server sends a ticket or two unasked, some time after the handshake (RFC 8446, section 4.6.1). urllib3 takes
an idle connection that has something to read for one that the server has closed.
"""

from __future__ import annotations

import ssl
import threading
from pathlib import Path
from typing import Any


class Authorities:
    """Which file was read into which context; for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._context: ssl.SSLContext | None = None
        self._known: tuple[Any, ...] = ()

    def read_into(self, context: ssl.SSLContext, file: str) -> bool:
        """Read a file of certificates, unless the context has it as it is now.

        Args:
            context: Of the connection that is to be opened.
            file: Its path.

        Returns:
            Whether the context has them; if not, whoever connects reads the file and says what is wrong with it.
        """
        with self._lock:  # those that connect at the same time wait for the first, and save as much
            try:
                now = Path(file).stat()
                version = (file, now.st_mtime_ns, now.st_size)
                if context is not self._context or version != self._known:
                    context.load_verify_locations(file)
                    self._context, self._known = context, version
            except (OSError, ssl.SSLError):
                return False
            return True


def is_open(sock: ssl.SSLSocket) -> bool:
    """Read the tickets of a connection that nobody uses, and say whether that was all there is to read.

    Returns:
        Whether it can be used: not where the server has closed it, or has answered nothing that was asked.
    """
    patience = sock.gettimeout()
    try:
        sock.settimeout(0)
        sock.recv(1)
    except ssl.SSLWantReadError:
        sock.settimeout(patience)
        return True
    except OSError:
        return False
    return False

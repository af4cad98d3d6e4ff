"""A network between Kafka's clients and a broker that can be cut, slowed down and choked."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from functools import partial

__all__ = ["TcpProxy"]

_PIECE = 64 << 10
_STEPS_A_SECOND = 20
_CONNECT_SECONDS = 5


class TcpProxy:
    """Passes connections on to ``target``, a port of this machine, in the way last asked for.

    A connection that has swallowed a byte never passes one again, like one that a firewall forgot:
    what came later would make no sense to its peer. ``with`` starts and ends it.

    Attributes:
        address: where it listens, ``HOST:PORT``.
        target: the port behind it; 0 refuses everybody.
        passed: bytes that have gone to clients.
        swallowed: bytes that have gone nowhere.
        opened: connections that clients have made.
    """

    def __init__(self) -> None:
        """Listen; connections are taken from ``start`` on."""
        self.target = self.passed = self.swallowed = self.opened = 0
        self._swallows = False
        self._delay = 0.0
        self._rate = 0
        self._pairs: set[_Pair] = set()
        self._changed = threading.Condition()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> TcpProxy:  # noqa: PYI034 - Python 3.10 has no Self
        """Start."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End, with all connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        self.close_all()

    def heal(self) -> None:
        """Pass everything on at once."""
        self._set(swallows=False)

    def drop(self) -> None:
        """Take connections and bytes, and pass none on: nobody is told of anything."""
        self._set(swallows=True)

    def delay(self, seconds: float) -> None:
        """Pass everything on later."""
        self._set(delay=seconds)

    def throttle(self, bytes_a_second: int) -> None:
        """Pass this much on to all clients together."""
        self._set(rate=bytes_a_second)

    def close_all(self) -> None:
        """Close every connection; new ones are taken."""
        with self._changed:
            pairs = list(self._pairs)
        for pair in pairs:
            pair.close()

    def wait_until_passed(self, amount: int, seconds: float = 60) -> None:
        """Wait until ``amount`` more bytes have gone to clients."""
        with self._changed:
            goal = self.passed + amount
            assert self._changed.wait_for(lambda: self.passed >= goal, seconds), self.passed

    def wait_until_swallowed(self, seconds: float = 60) -> None:
        """Wait until somebody sends something in vain."""
        with self._changed:
            before = self.swallowed
            assert self._changed.wait_for(lambda: self.swallowed > before, seconds), before

    def _set(self, *, swallows: bool = False, delay: float = 0.0, rate: int = 0) -> None:
        self._swallows, self._delay, self._rate = swallows, delay, rate

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            pair = _Pair(client)
            with self._changed:
                self.opened += 1
                self._pairs.add(pair)
                self._changed.notify_all()
            threading.Thread(target=self._pass_on, args=(pair,), daemon=True).start()

    def _pass_on(self, pair: _Pair) -> None:
        """Carry a connection's bytes, both ways, until either side ends it."""
        try:
            pair.broker = socket.create_connection(("127.0.0.1", self.target), _CONNECT_SECONDS)
            pair.broker.settimeout(None)
            upwards = partial(self._pump, pair, pair.client, pair.broker, is_down=False)
            threading.Thread(target=upwards, daemon=True).start()
            self._pump(pair, pair.broker, pair.client, is_down=True)
        except OSError:
            pair.close()
        with self._changed:
            self._pairs.discard(pair)

    def _pump(
        self, pair: _Pair, source: socket.socket, sink: socket.socket, *, is_down: bool
    ) -> None:
        """Carry bytes one way; ``is_down`` is to the client."""
        with contextlib.suppress(OSError):
            while True:
                rate = self._rate if is_down else 0
                piece = source.recv(max(rate // _STEPS_A_SECOND, 1) if rate else _PIECE)
                if not piece:
                    break
                time.sleep(self._delay + (len(piece) / rate if rate else 0))
                pair.is_lost = pair.is_lost or self._swallows
                if not pair.is_lost:
                    sink.sendall(piece)
                with self._changed:
                    self.swallowed += len(piece) if pair.is_lost else 0
                    self.passed += len(piece) if is_down and not pair.is_lost else 0
                    self._changed.notify_all()
        pair.close()


class _Pair:
    """A client's connection and the one that stands for it at the broker."""

    def __init__(self, client: socket.socket) -> None:
        self.client = client
        self.broker: socket.socket | None = None
        self.is_lost = False

    def close(self) -> None:
        """Close both; what waits for them returns."""
        for each in (self.client, self.broker):
            if each is not None:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()

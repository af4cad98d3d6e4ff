"""What ``gather.c`` offers; it is there only where it could be compiled."""

from typing import Literal, TypeAlias

__all__ = ["Gatherer", "bind", "newest_client"]

_Buffer: TypeAlias = tuple[int, int, object]  # address, size, and what keeps it
_Which: TypeAlias = tuple[int, int, _Buffer, _Buffer | None]  # rows, nulls, validity, offsets
_Binary: TypeAlias = tuple[_Which, _Buffer]
_Headers: TypeAlias = tuple[_Which, _Binary, _Binary]  # names, values
_Event: TypeAlias = tuple[int, str, int, int]  # code, text, partition, offset
_Told: TypeAlias = tuple[Literal["error", "log", "statistics"], int, str]  # code or level

class Gatherer:
    """Gathers messages of some partitions, for one thread."""

    def __init__(self, client: object) -> None:
        """Take what ``newest_client`` gave; its consumer must outlive this."""

    def expect(self, partition: int, start: int, end: int) -> None:
        """Keep messages ``[start, end)`` of a partition from now on."""

    def gather(
        self, most: int, milliseconds: int
    ) -> tuple[int, int, int, list[tuple[int, int]], list[_Event], list[_Told]]:
        """Wait for so many messages and events, for so long, and keep those that are wanted.

        Returns:
            How many have come, how many are kept so far, and of how many bytes; the position of
            each partition that moved; events; what the client told meanwhile.
        """

    def take(
        self,
    ) -> tuple[_Buffer, _Buffer, tuple[_Which, _Buffer], _Binary, _Binary, _Headers] | None:
        """Give away what is kept, as Arrow lays it out; None: nothing is."""

    def close(self) -> None:
        """Let go of the consumer's queue, before the consumer is closed."""

def bind(linked: str) -> None:
    """Look up librdkafka's functions in a library that is linked with it.

    Raises:
        OSError: it can't be done; the text says why.
    """

def newest_client() -> object:
    """Return the client that this thread has made last, with this library as a plugin.

    Raises:
        OSError: librdkafka did not let the plugin do what it must.
    """

"""The standard streams: open, whatever a process was started with, and honest about what they lost.

Standard error is for people: what can't be written there is dropped, and nothing else changes.
Standard output is what most commands are for: what can't be written there is an ``OutputError``.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import sys
from typing import TYPE_CHECKING, TextIO

from pipeline.showing.lines import say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Buffer

__all__ = [
    "NOBODY_READS",
    "OutputError",
    "delivered",
    "forgiven_output",
    "hold_streams",
    "is_terminal",
    "not_delivered",
]


NOBODY_READS = 141
"""The exit code where the reader of standard output went away: a shell's for SIGPIPE."""

_STDIN, _STDOUT, _STDERR = range(3)
_AT_ONCE = select.PIPE_BUF  # what a pipe that is ready takes without waiting
_PATIENCE_MILLISECONDS = 1000


class OutputError(OSError):
    """Standard output is closed or full, or its reader went away; only it raises this."""


def hold_streams() -> None:
    """Open what of descriptors 0, 1 and 2 is closed, and put streams of ours in their places.

    To be called before any other file is opened: it would get a free one of these numbers, and what
    C libraries write to standard error would go into that file. A standard output that was closed
    can't be written to afterwards either, and says so.
    """
    _open_if_closed(_STDIN, os.O_RDONLY)
    _open_if_closed(_STDOUT, os.O_RDONLY)
    _open_if_closed(_STDERR, os.O_WRONLY)
    sys.stdin = sys.stdin or io.TextIOWrapper(io.FileIO(_STDIN, closefd=False))
    sys.stdout = _text(sys.stdout, _Descriptor(_STDOUT))
    sys.stderr = _text(sys.stderr, _Descriptor(_STDERR, forgives=True))


@contextlib.contextmanager
def forgiven_output() -> Iterator[None]:
    """Drop what can't be written to standard output meanwhile: a user's function may print."""
    buffer = getattr(sys.stdout, "buffer", None)
    descriptor = getattr(buffer, "raw", None)
    if not isinstance(descriptor, _Descriptor):  # of somebody who calls ``main``
        yield
        return
    descriptor.forgives = True
    try:
        yield
    finally:
        sys.stdout.flush()
        descriptor.forgives = False


def is_terminal() -> bool:
    """Tell whether standard error is a terminal that can move a line."""
    return sys.stderr.isatty() and os.environ.get("TERM", "") not in {"", "dumb", "unknown"}


def delivered(code: int) -> int:
    """Write out what was printed; return ``code``, or another one if that fails."""
    try:
        sys.stdout.flush()
    except OutputError as error:
        return not_delivered(error)
    return code


def not_delivered(error: OutputError) -> int:
    """Return the exit code for what could not be printed; say why, if anybody wanted it."""
    if error.errno == errno.EPIPE:  # as in `status ... | head`
        return NOBODY_READS
    reason = "it is closed" if error.errno == errno.EBADF else error.strerror
    say(f"error: cannot write to standard output: {reason}", to=sys.stderr)
    return 1


def _open_if_closed(number: int, flags: int) -> None:
    """Open nothing under a descriptor that is closed; those below it must be open."""
    try:
        os.fstat(number)
    except OSError:
        handle = os.open(os.devnull, flags)  # it is the lowest one that is free: this one
        os.set_inheritable(handle, True)  # noqa: FBT003 - it takes no keywords


def _text(before: TextIO | None, descriptor: _Descriptor) -> io.TextIOWrapper:
    """Return a text stream like ``before``, which is None where the descriptor was closed.

    What its encoding lacks, a name in ASCII for example, is written as an escape.
    """
    is_unbuffered = getattr(before, "write_through", False)
    return io.TextIOWrapper(
        io.BufferedWriter(descriptor),
        encoding=getattr(before, "encoding", None),
        errors="backslashreplace",
        line_buffering=getattr(before, "line_buffering", True) or is_unbuffered,
    )


class _Descriptor(io.RawIOBase):
    """A descriptor to write to, which is not closed with it.

    Attributes:
        forgives: What can't be written is dropped, as is what a reader who stands still keeps
            waiting; else the one is an ``OutputError``, and the other waits.
    """

    def __init__(self, number: int, *, forgives: bool = False) -> None:
        super().__init__()
        self.forgives = forgives
        self._number = number
        self._dropped = 0  # lines, since something could be written

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._number

    def isatty(self) -> bool:
        return os.isatty(self._number)

    def write(self, content: Buffer) -> int:
        view = memoryview(content)
        return self._offer(view) if self.forgives else self._deliver(view)

    def _deliver(self, content: memoryview) -> int:
        """Write some; where that would have to wait it does, for ever if need be."""
        try:
            return os.write(self._number, content)
        except BlockingIOError:
            self._is_ready(None)
            return 0
        except OSError as error:
            raise OutputError(error.errno, error.strerror) from error

    def _offer(self, content: memoryview) -> int:
        """Write some, or drop all; a reader who stands still is waited for once."""
        if not self._is_ready(0 if self._dropped else _PATIENCE_MILLISECONDS):
            self._dropped += max(bytes(content).count(b"\n"), 1)
            return content.nbytes
        try:
            if self._dropped:
                note, self._dropped = f"... {self._dropped:,} lines are missing here\n", 0
                os.write(self._number, note.encode())
                return 0  # to be asked again, since that may have filled it
            return os.write(self._number, content[:_AT_ONCE])
        except OSError:
            return content.nbytes

    def _is_ready(self, milliseconds: int | None) -> bool:
        """Wait until something can be written without waiting, or nothing ever can."""
        poll = select.poll()
        poll.register(self._number, select.POLLOUT)
        return bool(poll.poll(milliseconds))

"""Where the program begins: ``batch-collection``, or ``python -m pipeline``."""

from __future__ import annotations

import signal

__all__ = ["entry_point"]


def entry_point() -> None:
    """Run the command that the shell gave, and end the process.

    Until a command runs, Ctrl-C ends it as the system does: an import that is interrupted would
    show where, and nothing is there to be ended in good order.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from pipeline import cli  # noqa: PLC0415 - takes a third of a second

    cli.entry_point()


if __name__ == "__main__":
    entry_point()

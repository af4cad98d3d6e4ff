"""The commands: ``batch-collection COMMAND``; ``python -m pipeline`` is its ``collect``."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import signal
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from batch_collection import __version__
from batch_collection.errors import CollectionError
from batch_collection.loading import load_for_good
from pipeline.options.beam_flags import SWITCHES, WITH_VALUE
from pipeline.options.command_parser import CommandParser
from pipeline.options.config_file import placed, read_config_file
from pipeline.options.flags import Parser, nearest, normalised, unknown_flags
from pipeline.options.log import log_flags
from pipeline.showing.lines import LogLines, log_form, say
from pipeline.showing.overview import overview
from pipeline.showing.patience import said_at_once
from pipeline.showing.quiet import keep_quiet
from pipeline.showing.streams import OutputError, delivered, hold_streams, not_delivered

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence
    from types import ModuleType, TracebackType

__all__ = ["COMMANDS", "entry_point", "main"]


class Command(NamedTuple):
    """What a command does, and an example of it."""

    says: str
    example: str


_BROKER = "--bootstrap_servers=localhost:9092"
_COLLECTING = f"{_BROKER} --topics=orders --output=collected"
COMMANDS = {
    "collect": Command(
        "collect topics or subscriptions in batch files at regular intervals (the default)",
        f"collect {_COLLECTING} --interval=1m",
    ),
    "init": Command(
        "print a file for collect --config, with every flag explained in it",
        f"init {_COLLECTING} > collect.yaml",
    ),
    "validate": Command(
        "try whether collect could begin: flags, source, output; nothing is collected",
        f"validate {_COLLECTING}",
    ),
    "preview": Command(
        "say what the first messages would become, without collecting any",
        f"preview {_BROKER} --topics=orders",
    ),
    "demo": Command("the whole path in half a minute, with an embedded broker", "demo"),
    "produce": Command(
        "send sample messages at regular intervals",
        f"produce {_BROKER} --topics=sensor --create_topics",
    ),
    "follow": Command(
        "hand each committed batch to a function, in order",
        "follow collected/orders --cursor=trainer --process=train:process",
    ),
    "announce": Command(
        "tell others of each window that is closed and visible",
        "announce collected/orders --to=https://example.org/windows",
    ),
    "wait": Command(
        "end as soon as a window is closed and visible, for schedulers",
        "wait collected/orders --closed_through=2026-11-22T10:00:00Z --timeout=10m",
    ),
    "export": Command(
        "write a collection as TFRecord or JSON lines, for other programs",
        "export collected/orders --to=jsonl --output=exported",
    ),
    "list": Command("list the collections in directories, a line each", "list collected"),
    "status": Command(
        "say what a collection holds, how far it is, and what is wrong with it",
        "status collected/orders",
    ),
    "dead-letters": Command(
        "show and count the messages of which no row could be made, and why",
        "dead-letters collected/orders",
    ),
    "redrive": Command(
        "decode dead letters again, and make rows of those that have become good",
        "redrive collected/orders --dry_run",
    ),
    "schema": Command(
        "say where a collection's columns and types are from; pin types for the future",
        "schema collected/orders --pin price=double --dry_run",
    ),
    "audit": Command(
        "check every entry, file, row and offset of a collection; exit code 1 with findings",
        "audit collected/orders",
    ),
    "upgrade": Command(
        "move a collection of an older format to the newest one; its files stay as they are",
        "upgrade collected/orders",
    ),
    "serve": Command(
        "show collections over HTTP: health, metrics, a page", "serve collected --http=8080"
    ),
    "expire": Command(
        "delete old windows: their files go, a stub that says what was there is left",
        "expire collected/orders --before=30d --dry_run",
    ),
    "completion": Command(
        "print a script by which a shell completes commands and flags", "completion bash"
    ),
    "help": Command("list the commands, or explain one", "help status"),
    "version": Command("print the version", "version"),
}
_LISTED = "batch-collection --help lists them"
_OVERVIEW = {name: each.says for name, each in COMMANDS.items()}


def main(argv: Sequence[str]) -> int:
    """Run a command; return the exit code: 0, 1 (it failed) or 2 (what the user can mend).

    It is 141 where the reader of what it prints went away, 130 after Ctrl-C while it starts.
    """
    log_form.use(as_json=False, level=logging.INFO)
    words = normalised(argv)
    if not words:  # a script whose flags got lost must not take it for a run that went well
        say(*overview(_OVERVIEW), to=sys.stderr)
        return 2
    if words in (["--help"], ["-h"]):
        words = ["help"]
    if not words[0].startswith("-"):
        command, words = words[0].replace("_", "-"), words[1:]
    else:
        command = "collect"
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LogLines("%(levelname)s %(message)s"))
    keep_quiet(handler)
    try:
        _check_folder()
        return delivered(_run(command, words))
    except CollectionError as error:
        say(*(f"error: {line}" for line in error.lines), to=sys.stderr)
        return 2
    except KeyboardInterrupt:  # where a command does not end by itself: while it starts, say
        return 130
    except OutputError as error:
        return not_delivered(error)


def entry_point() -> None:
    """Run the command that the shell gave, and end the process.

    It ends as soon as everybody has cleaned up, before the interpreter is taken apart: a thread of
    Arrow's that lets go of a Python file meanwhile aborts the process (arrow 34314).
    """
    hold_streams()
    logging.captureWarnings(capture=True)  # so that they are log lines as others
    end = _End()
    atexit.register(end)  # the first one to come is the last one called
    try:
        end.code = main(sys.argv[1:])
    except SystemExit as asked:  # by argparse, after --help
        code = asked.code if isinstance(asked.code, int) else int(bool(asked.code))
        end.code = delivered(code)
    sys.exit(end.code)


@dataclass(slots=True)
class _End:
    """Ends the process at once, with an exit code."""

    code: int = 1

    def __call__(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
                stream.flush()
        os._exit(self.code)


def _run(command: str, words: Sequence[str]) -> int:
    module, parser = _module(command), _parser(command)
    args, unknown, errors, places = _parse(parser, words, command)
    errors += _use_log(args)
    known = parser.flags()
    pass_on = getattr(module, "pass_on", None)
    if pass_on is not None:  # an engine has flags of its own
        unknown, others, wrong = pass_on(args, unknown)
        known, errors = known + others, errors + wrong
    errors += unknown_flags(unknown, known, may_be_secret=any(map(_is_property, words)))
    check = getattr(module, "check", None)
    try:
        options = check(args) if check is not None else args
    except CollectionError as error:
        errors += error.lines
    if errors:
        raise CollectionError(*(placed(error, places) for error in errors))
    about = getattr(module, "about", None)
    if about is not None:  # it is about commands, which only this module knows
        return int(about(options, _OVERVIEW, _parser))
    needs = getattr(module, "NEEDS", None)
    if needs is not None:  # what runs the graph: no help and no mistake waits for it
        said_at_once(module.starting(options))
        load_for_good(needs)
    with _interrupts_raised():
        return int(module.run(options))


def _module(command: str) -> ModuleType:
    if command not in COMMANDS:
        message = f"unknown command {command!r}{nearest(command, COMMANDS)}; {_LISTED}"
        raise CollectionError(message)
    return load_for_good(f"pipeline.commands.{command.replace('-', '_')}")


def _parser(command: str) -> Parser:
    """Return what reads a command's flags."""
    module = _module(command)
    parser = CommandParser(command, *COMMANDS[command])
    parser.add_argument(
        "--version",
        action="version",
        version=f"batch-collection {__version__}",
        help="print the version",
    )
    module.configure(parser)
    return parser


@contextlib.contextmanager
def _interrupts_raised() -> Iterator[None]:
    """Let Ctrl-C be ``KeyboardInterrupt`` while a command runs, whom it lets end in good order.

    Before and after it ends the program as the system does: what is imported or taken apart would
    show where.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _check_folder() -> None:
    """See that there is a working directory, from which paths and modules are looked for."""
    try:
        os.getcwd()  # noqa: PTH109 - a Path is the same, and says less
    except FileNotFoundError as error:
        message = "the working directory was removed; change to one that is there"
        raise CollectionError(message) from error


def _is_property(word: str) -> bool:
    """Tell a ``-X``, glued to its key or not, or what was meant to be one."""
    return word.lower().startswith(("-x", "--x"))


def _parse(
    parser: Parser, words: Sequence[str], command: str
) -> tuple[argparse.Namespace, list[str], list[str], dict[str, str]]:
    """Read flags, those of ``--config`` first so that the command line wins: ``Parser.read``.

    Returns:
        The same, and of flags that only the file gives where they stand.

    Raises:
        CollectionError: the file can't be used; what it would give is not called missing, too.
    """
    args, unknown, errors = parser.read(words)
    _use_log(args)  # before the file is read, whose mistakes are told so, too
    if not getattr(args, "config", None):
        return args, unknown, errors, {}
    try:
        given = read_config_file(args.config, parser, _left_out(command))
    except CollectionError as error:
        raise CollectionError(*errors, *error.lines) from error
    typed = {"-X" if word.startswith("-X") else word.partition("=")[0] for word in words}
    places = {flag: place for flag, place in given.places.items() if flag not in typed}
    return *parser.read([*given.words, *words]), places


def _use_log(args: argparse.Namespace) -> list[str]:
    """Write standard error as flags say from now on; return their mistakes."""
    form, errors = log_flags(args)
    log_form.use(**form)
    logging.getLogger().setLevel(max(logging.WARNING, log_form.level))
    sys.excepthook = _logged_crash if log_form.as_json else sys.__excepthook__
    if log_form.as_json:
        threading.excepthook = _logged_crash_of_thread
    return errors


def _logged_crash(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    logging.getLogger(__name__).critical("%s", error, exc_info=(kind, error, trace))


def _logged_crash_of_thread(failed: threading.ExceptHookArgs) -> None:
    error = failed.exc_value
    if error is not None:
        _logged_crash(failed.exc_type, error, failed.exc_traceback)


def _left_out(command: str) -> set[str]:
    """Return the flags of a file for ``collect`` that it may hold for another command, too."""
    if command in {"collect", "preview", "validate"}:
        return set()
    from pipeline.options.collect import configure  # noqa: PLC0415 - pyarrow, seldom needed

    collect = Parser()
    configure(collect)
    return {*collect.flags(), *WITH_VALUE, *SWITCHES}

"""The collector's options: one frozen record, checked in one place. Nothing below sees flags."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from batch_collection.errors import CollectionError
from batch_collection.field_path import split_path
from batch_collection.formats.known import FORMATS
from batch_collection.loading import load_function
from batch_collection.schema.columns import KINDS_WITH_IDS
from batch_collection.schema.files import read_schema
from batch_collection.storage.opening import open_storage
from batch_collection.windows import format_instant, parse_instant
from pipeline.options.announcing import configure_target, target_of
from pipeline.options.config_file import configure as configure_config_file
from pipeline.options.engine import (
    DIRECT_RUNNER,
    RUNNERS,
    SHARDS,
    EngineOptions,
    check_engine,
)
from pipeline.options.flags import EXACTNESS, Flags, whole_number
from pipeline.options.local_files import obstacle, read_text
from pipeline.options.log import configure_log
from pipeline.options.serving import address_of, configure_http
from pipeline.options.sources import check_source, configure_sources
from transforms.decoding.known import DECODERS
from transforms.decoding.row_time import ATTRIBUTE, FIELD
from transforms.decoding.rules import RowRules
from transforms.elements.plan import DeadLetterLimit
from transforms.sources.kafka.settings import KafkaSettings
from transforms.writing.layout import METADATA, Output

if TYPE_CHECKING:
    import argparse
    from datetime import datetime

    from pipeline.announcing.target import Target
    from pipeline.options.serving import Address
    from transforms.sources.contract import SourceSettings
    from transforms.sources.pubsub.settings import SubscriptionSettings

__all__ = [
    "UNITS",
    "CollectOptions",
    "check",
    "check_decoding",
    "configure",
    "configure_decoding",
    "configure_files",
    "configure_timestamp_unit",
    "files_of",
    "input_format_of",
    "schema_of",
]


UNITS = ("s", "ms", "us", "ns")
_SECOND = timedelta(seconds=1)
_MOST_WORKERS = 1000
_MOST_ROWS = 2**31 - 1  # Beam's triggers count no further
_MOST_SHARDS = 10_000
_OF_CONSUMERS = frozenset({"bootstrap.servers", "group.id"})


@dataclass(frozen=True, slots=True)
class CollectOptions:
    """What ``collect`` was asked to do; see the flags of the same names."""

    source: SourceSettings | SubscriptionSettings
    start: str
    is_start_given: bool
    until: datetime | None
    skip_lost: bool
    interval: timedelta
    batch_size: int
    grace: timedelta
    max_ahead: timedelta
    max_messages: int
    target_bytes: int | None
    max_bytes: int | None
    workers: int
    shards: int
    rules: RowRules
    schema: dict[str, Any]
    output: str
    files: Output
    once: bool
    flush: bool
    max_dead_letters: DeadLetterLimit | None
    skips_if_running: bool
    announce: Target | None = None
    http: Address | None = None
    verbose: bool = False
    engine: EngineOptions | None = None


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the flags, in groups; values stay text until ``check``."""
    source = parser.add_argument_group("source")
    configure_sources(source)
    source.add_argument(
        "--start",
        metavar="WHERE",
        help="where a new collection begins: earliest, latest or an instant (default: earliest)",
    )
    source.add_argument(
        "--on_data_loss",
        metavar="fail|skip",
        default="fail",
        help="what to do when messages were deleted before they were read (default: fail)",
    )
    _configure_windows(parser.add_argument_group("windows"))
    _configure_output(parser.add_argument_group("output"))
    configure_target(parser.add_argument_group("announcing"), "announce", "announce_secret_file")
    _configure_running(parser.add_argument_group("running"))


def _configure_windows(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--interval",
        metavar="DURATION",
        default="60s",
        help="length of a window: 10s, 1m, 1h30m, in whole seconds (default: 60s)",
    )
    group.add_argument(
        "--batch_size",
        metavar="ROWS",
        default="1000000",
        help="most rows of a file; a cycle begins early when so many messages wait "
        "(default: 1000000)",
    )
    group.add_argument(
        "--target_bytes",
        metavar="BYTES",
        help="a batch also ends before its rows would have more bytes than this, counted as "
        "values, uncompressed (default: none)",
    )
    group.add_argument(
        "--grace",
        metavar="DURATION",
        default="2s",
        help="how long after its end a window waits for late messages (default: 2s)",
    )
    group.add_argument(
        "--timestamp",
        metavar="RULE",
        default="record",
        help="a row's time: record (Kafka's, or when it was published), field:NAME (dots lead into "
        'objects; field:"meta.ts".x keeps a dot), of Pub/Sub attribute:NAME, or collected '
        "(arrival) (default: record)",
    )
    configure_timestamp_unit(group)
    group.add_argument(
        "--max_ahead",
        metavar="DURATION",
        default="1h",
        help="rows further than this in the future are written without waiting (default: 1h)",
    )


def _configure_output(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--output",
        metavar="DIR",
        help="where collections lie: DIR/TOPIC or DIR/SUBSCRIPTION; DIR may be "
        "gs://bucket/prefix (required)",
    )
    configure_files(group)
    configure_decoding(group)
    group.add_argument(
        "--shards",
        metavar="N",
        help="files an interval, each a share of the partitions, worked off in parallel (default: "
        f"--direct_num_workers, of Kafka on an engine {SHARDS})",
    )


def configure_timestamp_unit(group: argparse._ArgumentGroup) -> None:
    """Declare what numbers in a time field are."""
    group.add_argument(
        "--timestamp_unit",
        metavar="s|ms|us|ns",
        help="unit of numbers in a time field or attribute (default: none, for RFC 3339 texts)",
    )


def configure_files(group: argparse._ArgumentGroup) -> None:
    """Declare what batch files look like."""
    codecs = (f"{name}: {', '.join(each.endings)}" for name, each in FORMATS.items())
    group.add_argument(
        "--output_format",
        metavar="|".join(FORMATS),
        default="parquet",
        help="format of batch files (default: parquet)",
    )
    group.add_argument(
        "--compression",
        metavar="CODEC",
        help=f"{'; '.join(codecs)} (default: the first)",
    )
    group.add_argument(
        "--metadata",
        metavar="none|position|full",
        default="position",
        help="columns _partition _offset _timestamp _index, with full also _key _headers; of "
        "Pub/Sub _message_id _publish_time _index, with full also _ordering_key _attributes "
        "(default: position)",
    )


def configure_decoding(group: argparse._ArgumentGroup) -> None:
    """Declare how messages become rows."""
    group.add_argument(
        "--input_format",
        metavar="FORMAT",
        default="json",
        help="json (objects or arrays of them), bytes, or MODULE:FUNCTION (default: json)",
    )
    group.add_argument(
        "--schema",
        metavar="FILE",
        help=f"file of column types to pin, JSON or YAML; {EXACTNESS} (default: none)",
    )
    group.add_argument(
        "--numbers",
        metavar="infer|double",
        default="infer",
        help="types of new number columns: as first seen, or always double (default: infer)",
    )


def _configure_running(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--once", action="store_true", help="collect what has arrived, close what is due, stop"
    )
    group.add_argument(
        "--flush", action="store_true", help="with --once: write the open windows too"
    )
    group.add_argument(
        "--if_running",
        metavar="go|skip",
        default="go",
        help="another collector of this machine holds a topic's collection: go on, and one of them "
        "ends at its next commit, or skip this run; exit code 3 in both cases (default: go)",
    )
    group.add_argument(
        "--until",
        metavar="INSTANT",
        help="read each partition up to its first message stamped then or later, and stop "
        "(a backfill's end)",
    )
    group.add_argument(
        "--max_dead_letters",
        metavar="N|P%",
        help="stop a topic before this run has more than N dead letters of it, or before a cycle "
        "of 100 or more messages is committed of which more than P%% are dead letters "
        "(default: none)",
    )
    group.add_argument(
        "--max_messages_per_cycle",
        metavar="N",
        default="2000000",
        help="most messages of one cycle; bounds memory and what a crash repeats "
        "(default: 2000000)",
    )
    group.add_argument(
        "--max_bytes_per_cycle",
        metavar="BYTES",
        help="most bytes of the messages of one cycle; with more of them it is planned again with "
        "fewer messages (default: none)",
    )
    group.add_argument(
        "--runner",
        metavar="RUNNER",
        default=DIRECT_RUNNER,
        help="DirectRunner (in this process), or an engine: PrismRunner, DataflowRunner, "
        "FlinkRunner, PortableRunner; those take Beam's own flags, too (default: DirectRunner)",
    )
    group.add_argument(
        "--direct_num_workers",
        metavar="N",
        help="with DirectRunner, of Kafka: processes that read, decode and write beside each "
        "other; each takes as much memory as one; 0: as many as there are cores (default: 1)",
    )
    group.add_argument(
        "--cycle_timeout",
        metavar="DURATION",
        help="on an engine: a cycle that takes longer is planned again (default: 5m)",
    )
    group.add_argument(
        "--detach",
        action="store_true",
        help="on an engine: submit the job and leave it there, as on Dataflow anyway",
    )
    configure_http(group)
    group.add_argument(
        "--verbose", action="store_true", help="say cycles, too, that had nothing to do"
    )
    configure_log(group)
    group.add_argument(
        "--streaming", action="store_true", help="accepted: collecting is continuous anyway"
    )
    configure_config_file(group, "these flags")


def check(args: argparse.Namespace) -> CollectOptions:
    """Turn flags into options.

    Raises:
        CollectionError: all that is wrong, one line each.
    """
    flags = Flags(args)
    _check_choices(flags)
    interval = flags.duration("interval", _SECOND)
    flags.check(
        interval % _SECOND == timedelta(0),
        f"--interval must be whole seconds, got {args.interval!r}",
    )
    is_direct = args.runner == DIRECT_RUNNER
    source = check_source(flags)
    workers = _workers(flags, source, is_direct=is_direct)
    if args.shards is None:
        follows = is_direct or source.remembering is not None
        args.shards = str(workers if follows else SHARDS)
    options = CollectOptions(
        source=source,
        start=_start(flags),
        is_start_given=args.start is not None,
        until=flags.instant("until"),
        skip_lost=args.on_data_loss == "skip",
        interval=interval,
        batch_size=flags.number("batch_size", most=_MOST_ROWS),
        grace=flags.duration("grace", timedelta(0)),
        max_ahead=flags.duration("max_ahead", timedelta(0)),
        max_messages=flags.number("max_messages_per_cycle"),
        target_bytes=flags.number_if_given("target_bytes"),
        max_bytes=flags.number_if_given("max_bytes_per_cycle"),
        workers=workers,
        shards=flags.number("shards", most=_MOST_SHARDS),
        rules=_rules(flags, source.kind),
        schema=schema_of(flags),
        output=_output(flags),
        files=files_of(flags),
        once=args.once,
        flush=args.flush,
        max_dead_letters=_dead_letter_limit(flags),
        skips_if_running=args.if_running == "skip",
        http=address_of(flags),
        announce=_announce(flags, source, is_direct=is_direct),
        verbose=args.verbose,
        engine=check_engine(flags, source.names),
    )
    flags.check(args.once or not args.flush, "--flush goes with --once")
    flags.check(
        is_direct or args.http is None,
        f"--http is of this process; with --runner={args.runner} leave it out, and run "
        "batch-collection serve --http=HOST:PORT beside the job",
    )
    flags.check(
        not options.skips_if_running or (is_direct and _is_here(options.output)),
        f"--if_running=skip finds collectors of this machine, in directories of its; with "
        f"--runner={args.runner} --output={args.output} leave it out",
    )
    flags.done()
    return options


def _workers(
    flags: Flags, source: SourceSettings | SubscriptionSettings, *, is_direct: bool
) -> int:
    """Return how many processes work tasks off; 1: this one does."""
    if flags.args.direct_num_workers is None:
        return 1
    count = flags.number("direct_num_workers", least=0) or _cores()
    flags.check(
        count <= _MOST_WORKERS,
        f"--direct_num_workers must be at most {_MOST_WORKERS}, processes of this machine, got "
        f"{flags.args.direct_num_workers!r}; 0 is one for each core",
    )
    flags.check(
        is_direct,
        f"--direct_num_workers goes with --runner={DIRECT_RUNNER}; with "
        f"--runner={flags.args.runner} leave it out: --shards says how many tasks a cycle has, "
        "and flags of the engine how many workers",
    )
    flags.check(
        not is_direct or count == 1 or source.remembering is None,
        f"--direct_num_workers={flags.args.direct_num_workers} goes with --topics: what is pulled "
        "of a subscription is held by the one process that keeps its leases; leave it out",
    )
    return min(count, _MOST_WORKERS)


def _cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _announce(
    flags: Flags, source: SourceSettings | SubscriptionSettings, *, is_direct: bool
) -> Target | None:
    """Return where this process announces closed windows; a topic is of the source's brokers."""
    flags.check(
        is_direct or flags.args.announce is None,
        f"--announce needs --runner={DIRECT_RUNNER}; with --runner={flags.args.runner} leave it "
        "out, and run batch-collection announce PATH beside the job",
    )
    given = source.properties if isinstance(source, KafkaSettings) and is_direct else {}
    properties = {key: str(value) for key, value in given.items() if key not in _OF_CONSUMERS}
    servers = str(given.get("bootstrap.servers", ""))
    return target_of(flags, "announce", "announce_secret_file", servers, properties)


def _check_choices(flags: Flags) -> None:
    flags.choice("runner", RUNNERS)
    flags.choice("on_data_loss", ("fail", "skip"))
    flags.choice("if_running", ("go", "skip"))
    check_decoding(flags)


def check_decoding(flags: Flags) -> None:
    """Check the words among what ``configure_decoding`` and ``configure_files`` declare."""
    flags.choice("metadata", METADATA)
    flags.choice("numbers", ("infer", "double"))


def _dead_letter_limit(flags: Flags) -> DeadLetterLimit | None:
    text = flags.args.max_dead_letters
    if text is None:
        return None
    most = whole_number(text)
    if most is not None:
        return DeadLetterLimit(most=most)
    share = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)%", text)
    percent = float(share[1]) if share else -1.0
    flags.check(
        0 <= percent <= 100,  # noqa: PLR2004 - percent
        f"--max_dead_letters must be a number as 1000, or a share from 0% to 100%, got {text!r}",
    )
    return DeadLetterLimit(percent=percent)


def _start(flags: Flags) -> str:
    start = flags.args.start or "earliest"
    if start in {"earliest", "latest"}:
        return str(start)
    try:
        return format_instant(parse_instant(start))
    except ValueError:
        flags.errors.append(
            f"--start must be earliest, latest or an instant as 2026-11-22T10:30:00Z, got {start!r}"
        )
        return "earliest"


def _rules(flags: Flags, kind: str) -> RowRules:
    rule, unit = flags.args.timestamp, flags.args.timestamp_unit
    named = [FIELD, ATTRIBUTE] if kind in KINDS_WITH_IDS else [FIELD]
    naming = " or ".join(f"{each}NAME" for each in named)
    names_one = any(rule.startswith(each) and len(rule) > len(each) for each in named)
    flags.check(
        names_one or rule in {"record", "collected"},
        f"--timestamp must be record, collected or {naming}, got {rule!r}",
    )
    try:
        if rule.startswith(FIELD):
            split_path(rule.removeprefix(FIELD), lambda _: False)
    except CollectionError as error:
        flags.errors.append(f"--timestamp: {error}")
    if unit is not None:
        flags.choice("timestamp_unit", UNITS)
        flags.check(names_one, f"--timestamp_unit goes with --timestamp={naming}")
    return RowRules(
        input_format=input_format_of(flags),
        row_time=rule,
        timestamp_unit=unit,
        metadata=flags.args.metadata,
        numbers=flags.args.numbers,
        kind=kind,
    )


def input_format_of(flags: Flags) -> str:
    """Return the input format; a function of the user's must be there."""
    text = str(flags.args.input_format)
    if ":" not in text:
        return flags.choice("input_format", (*DECODERS, "MODULE:FUNCTION"))
    try:
        load_function("input_format", text)
    except CollectionError as error:
        flags.errors.append(str(error))
    return text


def schema_of(flags: Flags) -> dict[str, Any]:
    """Return the types of ``--schema``."""
    path = flags.args.schema
    if path is None:
        return {}
    try:
        text = read_text(path, "--schema")
        return read_schema(text, as_yaml=path.endswith((".yaml", ".yml")))
    except CollectionError as error:
        flags.errors += error.lines
    except ValueError as error:
        flags.errors.append(f"--schema={path}: {error}")
    return {}


def _output(flags: Flags) -> str:
    """Return where collections lie: a URL as it is, a directory as an absolute path."""
    output = flags.given("output", "name a directory, as collected, or gs://bucket/prefix")
    if not output:
        return output
    try:
        storage = open_storage(output)
        uri, folder = storage.uri, storage.local_path("")
        found = None if folder is None else obstacle(folder)
    except CollectionError as error:
        uri, found = output, str(error)
    flags.check(found is None, f"--output={output}: {found}")
    return uri


def _is_here(uri: str) -> bool:
    """Tell whether it is a directory of this machine, or an error said already that it is none."""
    try:
        return open_storage(uri).local_path("") is not None
    except CollectionError:
        return True


def files_of(flags: Flags) -> Output:
    """Return what batch files look like."""
    name, metadata = flags.choice("output_format", FORMATS), flags.args.metadata
    if name not in FORMATS:
        return Output(metadata=metadata)
    compressions = list(FORMATS[name].endings)
    if flags.args.compression is None:
        return Output(name, compressions[0], metadata)
    return Output(name, flags.choice("compression", compressions), metadata)

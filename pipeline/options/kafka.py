"""The flags of Kafka: brokers, topics, a group, and librdkafka's properties."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, cast

from batch_collection.errors import CollectionError
from pipeline.options.engine import DATAFLOW_RUNNER, DIRECT_RUNNER
from pipeline.options.flags import configure_properties, properties
from pipeline.options.local_files import local_path
from transforms.sources.kafka.config import SECRET_VERSION, ConsumerConfig, is_secret
from transforms.sources.kafka.reader_name import READERS, is_built
from transforms.sources.kafka.settings import KafkaSettings

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from pipeline.options.flags import Flags
    from transforms.sources.kafka.reader_name import ReaderName

__all__ = ["KIND", "check", "configure", "is_asked_for"]


KIND = "Kafka"
_REPEATED = re.compile(r"\{\d*,\d*\}")  # the one comma that a pattern may have
_HERE = re.compile(r"(localhost|127\.[\d.]+|0\.0\.0\.0|\[?::1\]?)(:\d+)?")


def configure(group: argparse._ArgumentGroup) -> None:
    """Declare the flags."""
    group.add_argument(
        "--bootstrap_servers",
        metavar="HOST:PORT,...",
        help="Kafka brokers (required, except for Pub/Sub)",
    )
    group.add_argument(
        "--topics",
        metavar="A,B",
        help="Kafka topics, each a collection of its own, or one pattern that begins with ^, as "
        "'^orders\\..*': those that match, also ones that come later (required, except for "
        "Pub/Sub)",
    )
    group.add_argument(
        "--group_id",
        metavar="NAME",
        help="consumer group: begin where its offsets are, commit its offsets (default: none)",
    )
    configure_properties(
        group,
        "; on an engine the workers read it, and it may be gs://... or "
        "projects/P/secrets/S/versions/V",
    )
    group.add_argument(
        "--reader",
        metavar="|".join(READERS),
        default=READERS[0],
        help="how messages are taken from librdkafka: columnar is compiled when this is installed, "
        "and takes less CPU; auto takes it where it is there (default: auto)",
    )


def is_asked_for(args: argparse.Namespace) -> bool:
    """Tell whether any of the flags is there that name topics."""
    return bool(args.bootstrap_servers or args.topics)


def check(flags: Flags) -> KafkaSettings:
    """Turn the flags into settings; mistakes are noted."""
    topics = flags.names("topics", "name one or more, as batch-topic")
    pattern = _pattern(flags, topics)
    topics = topics if pattern is None else ()
    for topic in topics:
        flags.check(topic.isprintable(), f"--topics must be printable, got {topic!r}")
    servers = flags.brokers()
    group_id = flags.args.group_id
    group = {"group.id": group_id} if group_id else {}
    fixed = {**group, "bootstrap.servers": servers}
    reader = cast("ReaderName", flags.choice("reader", READERS))
    if flags.args.runner == DIRECT_RUNNER:
        flags.check(
            reader != "columnar" or is_built(),
            "--reader=columnar was not built here; install this again with a C compiler (cc) on "
            "PATH, or use auto",
        )
        return KafkaSettings(topics, {**flags.properties(), **fixed}, group_id, reader, pattern)
    return KafkaSettings(topics, _on_engine(flags, fixed), group_id, reader)


def _pattern(flags: Flags, topics: tuple[str, ...]) -> str | None:
    """Return the pattern that topics are to match; None: they are named."""
    if not any(topic.startswith("^") for topic in topics):
        return None
    pattern = flags.args.topics.strip()
    stands_alone = pattern.startswith("^") and "," not in _REPEATED.sub("", pattern)
    flags.check(stands_alone, f"--topics takes one pattern alone, as '^(a|b)', got {pattern!r}")
    try:
        re.compile(pattern)
    except re.error as error:
        flags.errors.append(f"--topics={pattern} is no regular expression: {error}")
    flags.check(
        flags.args.runner == DIRECT_RUNNER,
        f"--topics={pattern} finds topics while it runs, which needs --runner={DIRECT_RUNNER}; "
        f"with --runner={flags.args.runner} list topics by their names",
    )
    return pattern


def _on_engine(flags: Flags, fixed: Mapping[str, object]) -> Mapping[str, object]:
    """Return librdkafka's properties for the workers: a file's are read there, and only there."""
    args = flags.args
    if args.runner == DATAFLOW_RUNNER:
        near = [each for each in (args.bootstrap_servers or "").split(",") if _HERE.fullmatch(each)]
        flags.check(
            not near,
            f"--bootstrap_servers={','.join(near)} is this machine, Dataflow's workers can't reach "
            "it; give an address in their network (see --network, --subnetwork)",
        )
    try:
        given = properties(args.properties, None)
    except CollectionError as error:
        flags.errors += error.lines
        return fixed
    for key in sorted(filter(is_secret, given)):
        flags.errors.append(
            f"-X {key} would travel in the job, where everybody who sees the job sees it; put it "
            "into --consumer_config: a file the workers read, or a Secret Manager resource "
            "projects/P/secrets/S/versions/V"
        )
    file = args.consumer_config
    if file is None:
        return {**given, **fixed}
    is_remote = file.startswith("gs://") or SECRET_VERSION.fullmatch(file)
    if not is_remote and args.runner == DATAFLOW_RUNNER:
        flags.check(
            Path(file).is_absolute(),
            f"--consumer_config={file} is read by Dataflow's workers; give gs://bucket/file, "
            "projects/P/secrets/S/versions/V, or the absolute path in --sdk_container_image",
        )
    elif not is_remote:
        try:
            properties([], file)  # it is there, and says what is wrong with it
            file = str(local_path(file, "--consumer_config"))
        except CollectionError as error:
            flags.errors += error.lines
    return ConsumerConfig({**given, **fixed}, file)

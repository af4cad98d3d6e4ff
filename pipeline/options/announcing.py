"""What flags say of announcements: where they go, and how they are signed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_collection.errors import CollectionError
from pipeline.announcing.target import FORMS, Target
from pipeline.options.local_files import local_path, read_text, warn_if_others_read

if TYPE_CHECKING:
    import argparse

    from pipeline.options.flags import Flags

__all__ = ["configure_target", "target_of"]


def configure_target(group: argparse._ActionsContainer, to: str, secret_file: str) -> None:
    """Declare where announcements go, under the names that two flags have in a command."""
    group.add_argument(
        f"--{to}",
        metavar="TARGET",
        help=f"where to tell of each window that is closed and visible: {FORMS}"
        + (" (default: nowhere)" if to == "announce" else " (required)"),
    )
    group.add_argument(
        f"--{secret_file}",
        metavar="FILE",
        help="file of the secret (whsec_...) that what is posted to https:// is signed with, by "
        "the rules of Standard Webhooks (default: it is not signed)",
    )


def target_of(
    flags: Flags, to: str, secret_file: str, servers: str, properties: dict[str, str]
) -> Target | None:
    """Return where announcements go; None: nowhere, or a mistake was noted.

    Args:
        flags: The command's.
        to: The flag that names it.
        secret_file: The flag that names the secret's file.
        servers: Kafka's brokers.
        properties: librdkafka's.
    """
    text, path = getattr(flags.args, to), getattr(flags.args, secret_file)
    if not text:
        flags.check(path is None, f"--{secret_file} goes with --{to}")
        return None
    secret = None if path is None else _secret(flags, secret_file, path)
    target = Target(text, secret, servers, properties)
    flags.check(
        servers or not target.is_kafka,
        f"--{to}={text} needs --bootstrap_servers; name a broker, as localhost:9092",
    )
    try:
        target.open().close()
    except CollectionError as error:
        flags.errors += [f"--{to}: {line}" for line in error.lines]
    return target


def _secret(flags: Flags, flag: str, path: str) -> bytes | None:
    from pipeline.announcing.webhook import parsed_secret  # noqa: PLC0415 - loads an HTTP client

    try:
        secret = parsed_secret(read_text(path, f"--{flag}"))
        warn_if_others_read(local_path(path, f"--{flag}"), f"--{flag}")
    except CollectionError as error:
        flags.errors += error.lines
    except ValueError as error:
        flags.errors.append(f"--{flag}={path} {error}")
    else:
        return secret
    return None

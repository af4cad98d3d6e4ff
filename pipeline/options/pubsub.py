"""The flags of Pub/Sub: subscriptions, or a topic to create one on, and how much is held."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING

from pipeline.options.flags import configure_endpoint
from transforms.sources.contract import Remembering
from transforms.sources.pubsub.held import Bounds
from transforms.sources.pubsub.settings import SubscriptionSettings

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from pipeline.options.flags import Flags

__all__ = ["KIND", "check", "configure", "is_asked_for"]

KIND = "Pub/Sub"
_ID = r"[A-Za-z][A-Za-z0-9._~+%-]{2,254}"
_SUBSCRIPTION = re.compile(rf"projects/([^/\s]+)/subscriptions/({_ID})")
_TOPIC = re.compile(rf"projects/([^/\s]+)/topics/{_ID}")
_LEAST_HORIZON = timedelta(minutes=10)
_UNFIT = {
    "start": "what waits in a subscription is collected; to begin elsewhere, seek it: "
    "gcloud pubsub subscriptions seek",
    "until": "a subscription hands out all it has, in no order; collect it, and read the windows "
    "before that instant",
    "on_data_loss": "a subscription never says what it has dropped",
}


def configure(group: argparse._ArgumentGroup) -> None:
    """Declare the flags."""
    group.add_argument(
        "--input_subscription",
        metavar="projects/P/subscriptions/S,...",
        help="Pub/Sub subscriptions, each a collection of its own, instead of Kafka's topics",
    )
    group.add_argument(
        "--input_topic",
        metavar="projects/P/topics/T",
        help="Pub/Sub topic; goes with --create_subscription",
    )
    group.add_argument(
        "--create_subscription",
        metavar="NAME",
        help="create this subscription of --input_topic if it is not there, and collect from it",
    )
    configure_endpoint(group)
    bounds = Bounds()
    group.add_argument(
        "--max_leased",
        metavar="N",
        default=str(bounds.messages),
        help="most messages that a process holds before they are durable; when there are so many, "
        f"nothing is pulled (default: {bounds.messages})",
    )
    group.add_argument(
        "--max_leased_bytes",
        metavar="BYTES",
        default=str(bounds.bytes),
        help=f"most bytes of those messages (default: {bounds.bytes})",
    )
    group.add_argument(
        "--dedupe_horizon",
        metavar="DURATION",
        default="30m",
        help="for how long after its acknowledgement a message that comes again is recognised; "
        "only time in which a collector runs counts; at least 10m (default: 30m)",
    )
    group.add_argument(
        "--dedupe_bytes",
        metavar="BYTES",
        default=str(Remembering().bytes),
        help="most memory for the ids of what was collected within --dedupe_horizon "
        f"(default: {Remembering().bytes})",
    )


def is_asked_for(args: argparse.Namespace) -> bool:
    """Tell whether any of the flags is there that name subscriptions."""
    return bool(args.input_subscription or args.input_topic or args.create_subscription)


def check(flags: Flags) -> SubscriptionSettings:
    """Turn the flags into settings; mistakes are noted."""
    args = flags.args
    for name, reason in _UNFIT.items():
        is_given = getattr(args, name) not in {None, "fail"}
        flags.check(not is_given, f"--{name} does not go with Pub/Sub: {reason}; leave it out")
    return SubscriptionSettings(
        tuple(_named(flags) if args.input_subscription else _created(flags)),
        flags.endpoint(),
        args.input_topic,
        Bounds(flags.number("max_leased"), flags.number("max_leased_bytes")),
        Remembering(flags.duration("dedupe_horizon", _LEAST_HORIZON), flags.number("dedupe_bytes")),
    )


def _named(flags: Flags) -> Iterator[str]:
    """Yield the subscriptions that are named; each gets a folder by its name without project."""
    flags.check(
        not (flags.args.input_topic or flags.args.create_subscription),
        "--input_subscription names subscriptions that are there, --create_subscription makes one; "
        "give one of them",
    )
    seen: dict[str, str] = {}
    for path in flags.names("input_subscription"):
        found = _SUBSCRIPTION.fullmatch(path)
        flags.check(
            found,
            "--input_subscription must be projects/PROJECT/subscriptions/NAME, of a name of 3 to "
            f"255 letters and digits that begins with a letter, got {path!r}",
        )
        name = found[2] if found else path
        flags.check(
            seen.setdefault(name, path) == path,
            f"--input_subscription: {seen[name]} and {path} would be one collection, {name}; "
            "collect one of them into another --output",
        )
        yield path


def _created(flags: Flags) -> Iterator[str]:
    """Yield the subscription that is to be created on a topic."""
    topic, name = flags.args.input_topic, flags.args.create_subscription
    if not topic:
        flags.errors.append(
            f"--create_subscription={name} goes with --input_topic=projects/PROJECT/topics/NAME"
        )
        return
    if not name:
        flags.errors.append(
            f"--input_topic={topic} is collected through a subscription; add "
            "--create_subscription=NAME, or name one that is there with --input_subscription"
        )
        return
    found = _TOPIC.fullmatch(topic)
    flags.check(
        found,
        "--input_topic must be projects/PROJECT/topics/NAME, of a name of 3 to 255 letters and "
        f"digits that begins with a letter, got {topic!r}",
    )
    flags.check(
        re.fullmatch(_ID, name),
        f"--create_subscription must be 3 to 255 letters, digits and . _ ~ + % -, got {name!r}",
    )
    project = found[1] if found else ""
    yield f"projects/{project}/subscriptions/{name}"

"""The sources there are, as flags ask for them; adding one is a line here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pipeline.options import kafka, pubsub

if TYPE_CHECKING:
    import argparse

    from pipeline.options.flags import Flags
    from transforms.sources.contract import SourceSettings
    from transforms.sources.pubsub.settings import SubscriptionSettings

__all__ = ["SOURCES", "SourceFlags", "check_source", "configure_sources"]


class SourceFlags(Protocol):
    """The flags of a source, whose ``KIND`` is its name: a module beside this one."""

    @property
    def KIND(self) -> str:  # noqa: N802 - a constant of a module
        """The source's name, for people."""

    def configure(self, group: argparse._ArgumentGroup) -> None:
        """Declare them; values stay text until ``check``."""

    def is_asked_for(self, args: argparse.Namespace) -> bool:
        """Tell whether any of them is there that names what to collect."""

    def check(self, flags: Flags) -> SourceSettings | SubscriptionSettings:
        """Turn them into settings; mistakes are noted."""


SOURCES: list[SourceFlags] = [kafka, pubsub]


def configure_sources(group: argparse._ArgumentGroup) -> None:
    """Declare the flags of all sources."""
    for source in SOURCES:
        source.configure(group)


def check_source(flags: Flags) -> SourceSettings | SubscriptionSettings:
    """Return the settings of the source that is asked for; without any, the first says so."""
    asked = (source for source in SOURCES if source.is_asked_for(flags.args))
    chosen = next(asked, SOURCES[0])
    for other in SOURCES:
        if other is not chosen:
            why = f"is for {other.KIND}, and these flags collect from {chosen.KIND}"
            flags.refuse(other.configure, why)
    return chosen.check(flags)

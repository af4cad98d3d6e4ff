"""The sources there are, as flags ask for them; adding one is a line here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pipeline.options import kafka

if TYPE_CHECKING:
    import argparse

    from pipeline.options.flags import Flags
    from transforms.sources.contract import SourceSettings

__all__ = ["SOURCES", "SourceFlags", "check_source", "configure_sources"]


class SourceFlags(Protocol):
    """The flags of a source: a module beside this one."""

    def configure(self, group: argparse._ArgumentGroup) -> None:
        """Declare them; values stay text until ``check``."""

    def is_asked_for(self, args: argparse.Namespace) -> bool:
        """Tell whether any of them is there that names what to collect."""

    def check(self, flags: Flags) -> SourceSettings:
        """Turn them into settings; mistakes are noted."""


SOURCES: list[SourceFlags] = [kafka]


def configure_sources(group: argparse._ArgumentGroup) -> None:
    """Declare the flags of all sources."""
    for source in SOURCES:
        source.configure(group)


def check_source(flags: Flags) -> SourceSettings:
    """Return the settings of the source that is asked for; without any, the first says so."""
    asked = (source for source in SOURCES if source.is_asked_for(flags.args))
    return next(asked, SOURCES[0]).check(flags)

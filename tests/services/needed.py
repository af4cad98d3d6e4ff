"""What is made for tests, and which tests need it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.services.below import BELOW, below_the_package
from tests.services.flink import FLINK, flink_jars
from tests.services.gcs import NEWEST, newest_server
from tests.services.kafka import JARS, kafka_jars
from tests.services.made import UnavailableError
from tests.services.prism import PRISM, prism_binary
from tests.services.pubsub import PSTEST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    import pytest

__all__ = ["MADE", "fixtures_of", "prepare", "try_again"]

# by the fixtures that start it
MADE: dict[str, Callable[[Callable[[str], None] | None], Path]] = {
    "jars": kafka_jars,
    "flink_home": flink_jars,
    "prism": lambda say: prism_binary(say=say),
    "newest_gcs": newest_server,
    "worker_python": below_the_package,
    "pstest": PSTEST.get,
}

# what tests ask for by another name, when they run
_BY_PARAMETER = {"gcs": "gcs", "newest": "newest_gcs"}
_PARAMETERS = {"emulator", "pstest", "prism", "flink"}  # values that are fixtures' names
_ALSO = {"broker": "jars", "flink": "flink_home"}  # the real one where it can be had


def fixtures_of(item: pytest.Item) -> set[str]:
    """Return the names of the fixtures that a test uses, those by parameter, too."""
    names = set(getattr(item, "fixturenames", ()))
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    if parameters.get("new_uri") in _BY_PARAMETER:
        names.add(_BY_PARAMETER[parameters["new_uri"]])
    names |= _PARAMETERS.intersection(each for each in parameters.values() if isinstance(each, str))
    return names | {_ALSO[name] for name in names & _ALSO.keys()}


def prepare(fixtures: Iterable[str], say: Callable[[str], None]) -> None:
    """Make what fixtures need, a line each; what can't be made is said, and its tests skip."""
    for name, get in MADE.items():
        if name in fixtures:
            try:
                get(say)
            except UnavailableError as error:
                say(f"{error}; what needs it is skipped")


def try_again() -> None:
    """Forget what could not be made before."""
    for each in (JARS, FLINK, PRISM, NEWEST, BELOW, PSTEST):
        each.forget_failure()

"""Jars that Maven fetches, with all that they need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.services.made import run

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    Artifact = tuple[str, str, str]

__all__ = ["fetched_jars"]

_DEPENDENCY = (
    "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>"
)
_POM = (
    '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
    "<groupId>tests</groupId><artifactId>jars</artifactId><version>1</version>"
    "<dependencyManagement><dependencies>{}</dependencies></dependencyManagement>"
    "<dependencies>{}</dependencies></project>"
)


def fetched_jars(
    folder: Path, artifacts: Iterable[Artifact], pinned: Iterable[Artifact] = ()
) -> Path:
    """Let Maven copy jars to ``folder/lib``: group, artifact, version.

    Args:
        folder: an empty one.
        artifacts: those that are wanted.
        pinned: versions of what they need, if it is needed, in the place of those they ask for.

    Raises:
        UnavailableError: Maven can't resolve them.
    """
    (folder / "pom.xml").write_text(_POM.format(_listed(pinned), _listed(artifacts)))
    run(["mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=lib"], folder)
    return folder / "lib"


def _listed(artifacts: Iterable[Artifact]) -> str:
    return "".join(_DEPENDENCY.format(*artifact) for artifact in artifacts)

"""docs/engines.md: its commands run, on the engines that there are."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.collecting import Stream, check, run_command, sending

if TYPE_CHECKING:
    from tests.services.flink import FlinkServer
    from tests.services.prism import PrismServer
    from transforms.sources.kafka.embedded import EmbeddedBroker

PAGE = (Path(__file__).parent.parent / "docs" / "engines.md").read_text(encoding="utf-8")
_OURS = ("--bootstrap_servers", "--topics", "--output")


def command_for(runner: str) -> list[str]:
    """Return the flags of the page's command for a runner, which has one."""
    lines = "".join(re.findall(r"(?ms)^```sh\n(.*?)^```$", PAGE)).replace("\\\n", " ").splitlines()
    commands = [shlex.split(each)[1:] for each in lines if each.startswith("batch-collection ")]
    (found,) = (each for each in commands if f"--runner={runner}" in each)
    return found


def run(broker: EmbeddedBroker, folder: Path, words: list[str], *given: str) -> None:
    """Run a command with the test's broker, topic and output; see that it collects."""
    assert {word.partition("=")[0] for word in words} >= set(_OURS)
    taken = (*_OURS, *(flag.partition("=")[0] for flag in given))
    stream = Stream(broker)
    stream.send(*(sending(partition=n % 4, id=n) for n in range(500)))
    kept = [word for word in words if word.partition("=")[0] not in taken]
    end = run_command([stream], folder, *kept, *given, "--once", "--flush")
    assert end.returncode == 0, end.stderr
    check(folder / stream.name, stream.produced)


@pytest.mark.slow
@pytest.mark.integration
def test_the_command_for_prism_runs(
    embedded: EmbeddedBroker, prism: PrismServer, tmp_path: Path
) -> None:
    """With the program that is here."""
    run(embedded, tmp_path, command_for("PrismRunner"), f"--prism_location={prism.binary}")


@pytest.mark.slow
@pytest.mark.integration
def test_the_command_for_flink_runs(
    embedded: EmbeddedBroker, flink: FlinkServer, tmp_path: Path
) -> None:
    """With Flink in the job server, and workers in the process that submits."""
    where = (f"--job_endpoint={flink.endpoint}", "--environment_type=LOOPBACK")
    words = [w for w in command_for("PortableRunner") if not w.startswith("--environment_config")]
    run(embedded, tmp_path, words, *where)

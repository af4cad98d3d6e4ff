"""What a distributed engine needs beside the collector's flags: Beam's own, checked up front."""

from __future__ import annotations

import importlib
import re
import shutil
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from batch_collection.errors import CollectionError
from pipeline.options.beam_flags import SWITCHES, WITH_VALUE
from pipeline.options.flags import Flags, Parser

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

__all__ = [
    "DATAFLOW_RUNNER",
    "DIRECT_RUNNER",
    "RUNNERS",
    "SHARDS",
    "EngineOptions",
    "check_engine",
    "pass_on",
    "setup_file",
]


DIRECT_RUNNER = "DirectRunner"
DATAFLOW_RUNNER = "DataflowRunner"
ENGINES = ("PrismRunner", DATAFLOW_RUNNER, "FlinkRunner", "PortableRunner")
RUNNERS = (DIRECT_RUNNER, *ENGINES)

SHARDS = 4
"""Default of ``--shards`` on an engine."""

_CYCLE_TIMEOUT = timedelta(minutes=5)
_PACKAGES = ("setup_file", "extra_packages", "requirements_file", "sdk_container_image")
_REQUIRED = {
    "project": "name the Google Cloud project, as --project=my-project",
    "region": "name a region, as --region=europe-west1",
    "temp_location": "name a folder for the job's own files, as --temp_location=gs://bucket/tmp",
}
_WHOLE_BUNDLES = "--experiments=prism_disable_sdf_split"
"""Keeps Prism from splitting slow bundles: of a stateful step two would have one key at once."""
_NO_EXTRA = "pip install google-cloud-dataflow-client google-auth-httplib2"


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How to run on an engine.

    Attributes:
        runner: Beam's name of it.
        flags: those for Beam.
        cycle_timeout: when to plan a cycle again.
        job_endpoint: its job server, empty if Beam starts one that ends with this process.
        is_detached: the job goes on without who submits it.
        has_workers_here: the workers are in the process that submits.
    """

    runner: str
    flags: tuple[str, ...]
    cycle_timeout: timedelta
    job_endpoint: str = ""
    is_detached: bool = False
    has_workers_here: bool = False

    @property
    def has_server(self) -> bool:
        """Whether a job server is there, and can be asked for flags of its own."""
        return _is_asked(self.runner, self.job_endpoint)

    @property
    def is_dataflow(self) -> bool:
        """Whether it is Dataflow, which goes on without the machine that submits."""
        return self.runner == DATAFLOW_RUNNER


def _is_asked(runner: str, endpoint: str | None) -> bool:
    return runner in ("FlinkRunner", "PortableRunner") and endpoint not in (None, "", "embed")


def _parser_for(runner: str) -> Parser:
    """Return the parser of Beam's flags: Beam's own for an engine, one of names without.

    Beam takes a second to import, and without an engine its flags are only told from others.
    """
    if runner in ENGINES:
        from pipeline.options.beam import BeamParser  # noqa: PLC0415 - it imports Beam

        return BeamParser()
    parser = Parser(add_help=False)
    for flag in WITH_VALUE:
        parser.add_argument(flag, nargs="?")
    for flag in SWITCHES:
        parser.add_argument(flag, action="store_true")
    return parser


def pass_on(
    args: argparse.Namespace, unknown: Sequence[str]
) -> tuple[list[str], list[str], list[str]]:
    """Keep those of the words nobody knows that are Beam's, as ``args.beam``.

    Returns:
        The words that Beam doesn't know either, the flags it does know where an engine is asked
        for, and what is wrong with them.
    """
    args.beam = []
    if not unknown:
        return [], [], []
    parser = _parser_for(args.runner)
    given, left, errors = parser.read(unknown)
    if left and _is_asked(args.runner, given.job_endpoint):
        from pipeline.options.job_server import add_flags, flags_of  # noqa: PLC0415 - as above

        try:
            add_flags(parser, flags_of(given.job_endpoint))
        except CollectionError as error:
            return [], [], [*errors, *error.lines]  # nobody knows which are unknown
        _, left, errors = parser.read(unknown)
    args.beam = _without(unknown, left)
    return left, [] if args.runner == DIRECT_RUNNER else parser.flags(), errors


def _without(words: Sequence[str], left: Sequence[str]) -> list[str]:
    """Leave out the words that are left, once each, in whatever order."""
    kept, rest = [], list(left)
    for word in words:
        if word in rest:
            rest.remove(word)
        else:
            kept.append(word)
    return kept


def check_engine(flags: Flags, streams: Sequence[str]) -> EngineOptions | None:
    """Return what an engine is to be told; None for the DirectRunner. Mistakes are noted.

    ``streams`` are collected.
    """
    args = flags.args
    words = list(getattr(args, "beam", ()))
    if args.runner == DIRECT_RUNNER:
        engines = ", ".join(ENGINES)
        foreign = [word.partition("=")[0] for word in words if word.startswith("--")]
        if args.cycle_timeout is not None:
            foreign.append("--cycle_timeout")
        if args.detach:
            foreign.append("--detach")
        for flag in foreign:
            flags.errors.append(f"{flag} goes with an engine; name it with --runner: {engines}")
        return None
    given, _, _ = _parser_for(args.runner).read(words)
    flags.check(
        args.once or args.until is None,
        f"--until goes with --once on --runner={args.runner}: a continuous job has no end; add "
        "--once",
    )
    if args.runner == DATAFLOW_RUNNER:
        _check_dataflow(flags, given)
    default = "LOOPBACK" if args.runner in ("PrismRunner", "FlinkRunner") else "DOCKER"
    is_here = (getattr(given, "environment_type", None) or default) == "LOOPBACK"
    if args.detach and args.runner != DATAFLOW_RUNNER:
        _check_detached(flags, given, is_here=is_here)
    timeout = _CYCLE_TIMEOUT
    if args.cycle_timeout is not None:
        timeout = flags.duration("cycle_timeout", timedelta(seconds=1))
    return EngineOptions(
        args.runner,
        (*words, *_defaults(args, given, words, streams)),
        timeout,
        getattr(given, "job_endpoint", None) or "",
        is_detached=args.detach,
        has_workers_here=is_here,
    )


def _check_detached(flags: Flags, given: argparse.Namespace, *, is_here: bool) -> None:
    """See that neither engine nor workers end with this process."""
    flags.check(
        given.job_endpoint,
        "--detach needs an engine that goes on; name its job server with --job_endpoint",
    )
    flags.check(
        not is_here,
        "--detach needs workers that go on, and those of --environment_type=LOOPBACK are in this "
        "process; give DOCKER or EXTERNAL",
    )


def _check_dataflow(flags: Flags, given: argparse.Namespace) -> None:
    args = flags.args
    for name, cure in _REQUIRED.items():
        flags.check(getattr(given, name), f"--{name} is missing; {cure}")
    for name, value in (("temp_location", given.temp_location), ("output", args.output)):
        flags.check(
            not value or value.startswith("gs://"),
            f"--{name}={value} is of this machine, Dataflow's workers can't reach it; give a "
            f"gs://bucket/folder",
        )
    has_package = setup_file() is not None or any(getattr(given, name, None) for name in _PACKAGES)
    flags.check(
        has_package,
        "the workers need this package, and there is no checkout to build it from; give "
        "--extra_package=batch_collection-VERSION.tar.gz, "
        "--setup_file=/path/to/checkout/setup.py, or --sdk_container_image",
    )
    try:
        importlib.import_module("apache_beam.runners.dataflow.internal.apiclient")
        importlib.import_module("google.cloud.storage")
    except ImportError as error:
        flags.errors.append(f"--runner={DATAFLOW_RUNNER} needs more packages: {error}; {_NO_EXTRA}")


def _defaults(
    args: argparse.Namespace,
    given: argparse.Namespace,
    words: Sequence[str],
    streams: Sequence[str],
) -> list[str]:
    """Return flags for Beam that can be told from the rest."""
    defaults = [f"--runner={args.runner}", "--streaming"]
    if args.runner == "PrismRunner":
        prism = given.prism_location or shutil.which("prism")
        is_loud = any(word.startswith("--prism_log_level") for word in words)
        defaults += [f"--prism_location={prism}"] if prism else []
        defaults += [] if is_loud else ["--prism_log_level=error"]
        defaults.append(_WHOLE_BUNDLES)
    if not given.job_name and streams:
        names = "-".join(each.rpartition("/")[2] for each in streams)
        name = re.sub(r"[^a-z0-9]+", "-", f"collect-{names}".lower())[:60].strip("-")
        defaults.append(f"--job_name={name}")
    has_package = any(getattr(given, name, None) for name in _PACKAGES)
    if args.runner == DATAFLOW_RUNNER and not has_package:
        defaults.append(f"--setup_file={setup_file()}")
    return defaults


def setup_file() -> Path | None:
    """Return the setup.py of the checkout that this runs from, None where it is installed."""
    file = Path(__file__).parents[2] / "setup.py"
    return file if file.exists() else None

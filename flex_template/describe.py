"""Writes ``metadata.json`` from the flags of ``collect``: ``python -m flex_template.describe``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.options import collect as options
from pipeline.options.flags import Parser

if TYPE_CHECKING:
    import argparse

__all__ = ["FILE", "NO_PARAMETERS", "metadata"]

FILE = Path(__file__).parent / "metadata.json"
NO_PARAMETERS = {
    "-X": "no name for a parameter; properties stand in the file of --consumer_config",
    "--http": "a collector in this process serves; beside a job, batch-collection serve",
    "--runner": "the launcher gives it",
    "--direct_num_workers": "goes with the DirectRunner; Dataflow has flags of its own for that",
    "--announce": "a collector in this process does; beside a job, batch-collection announce",
    "--announce_secret_file": "goes with --announce",
    "--detach": "a job on Dataflow goes on anyway",
    **dict.fromkeys(
        ("--log_format", "--log_level", "--quiet"), "of standard error; a job's log is Dataflow's"
    ),
    "--streaming": "accepted, but collecting is continuous anyway",
}
_REQUIRED = {"output"}
_DURATION = r"([0-9]+(ms|s|m|h|d))+"
_NUMBER = r"[0-9][0-9_,]*"
_INSTANT = r"[0-9]{4}-[0-9]{2}-[0-9]{2}.*"
_REGEXES = {
    "DURATION": _DURATION,
    "BYTES": _NUMBER,
    "N": _NUMBER,
    "N|P%": _NUMBER + r"|[0-9]+(\.[0-9]+)?%",
    "ROWS": _NUMBER,
    "INSTANT": _INSTANT,
    "HOST:PORT,...": r"[^,\s]+:[0-9]+(,[^,\s]+:[0-9]+)*",
    "A,B": r"[A-Za-z0-9._-]+(,[A-Za-z0-9._-]+)*",
    "DIR": r"gs://[^/\s]+(/.*)?",
    "RULE": r"record|collected|field:.+",
    "FORMAT": r"json|bytes|[\w.]+:\w+",
    "WHERE": r"earliest|latest|" + _INSTANT,
    "CODEC": r"zstd|snappy|gzip|none",
}


def metadata() -> dict[str, Any]:
    """Return the template's description; a parameter a flag."""
    parser = Parser()
    options.configure(parser)
    actions = [action for action in parser._actions if action.dest != "help"]  # noqa: SLF001
    parameters = [
        _parameter(action) for action in actions if action.option_strings[0] not in NO_PARAMETERS
    ]
    return {
        "name": "Batch Collection",
        "description": "Collects Kafka topics or Pub/Sub subscriptions in batch files at regular "
        "intervals, for machine learning.",
        "streaming": True,
        "supportsExactlyOnce": True,
        "parameters": parameters,
    }


def _parameter(action: argparse.Action) -> dict[str, Any]:
    name = action.dest
    return {
        "name": name,
        "label": name.replace("_", " ").capitalize(),
        "helpText": str(action.help).replace("%%", "%"),
        "isOptional": name not in _REQUIRED,
        "regexes": [f"^({_regex(action)})$"],
    }


def _regex(action: argparse.Action) -> str:
    if action.nargs == 0:
        return "true|false"
    shape = str(action.metavar)
    is_choice = re.fullmatch(r"[a-z]+(\|[a-z]+)+", shape)
    return shape if is_choice else _REGEXES.get(shape, ".+")


if __name__ == "__main__":
    FILE.write_text(json.dumps(metadata(), indent=2) + "\n", encoding="utf-8")

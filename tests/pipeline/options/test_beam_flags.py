"""The names of Beam's flags are those of Beam's parser."""

from __future__ import annotations

import json
import subprocess
import sys

from pipeline.options.beam_flags import SWITCHES, WITH_VALUE

PROGRAM = """
import json
from pipeline.options.beam import BeamParser
print(json.dumps([[action.option_strings, action.nargs] for action in BeamParser()._actions]))
"""


def test_the_names_are_those_of_beams_parser() -> None:
    """In a process where nobody else declares options; dashes are underscores, as we read flags."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    actions = json.loads(done.stdout)
    names = [
        (name, nargs == 0) for flags, nargs in actions for name in flags if "-" not in name[2:]
    ]

    assert set(SWITCHES) == {name for name, is_switch in names if is_switch}
    assert set(WITH_VALUE) == {name for name, is_switch in names if not is_switch}

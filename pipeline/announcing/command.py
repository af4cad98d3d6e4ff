"""Announcements to a command: started once for each, with the event on its standard input."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from typing import TYPE_CHECKING

from batch_collection.errors import CollectionError
from pipeline.announcing.contract import UndeliveredError

if TYPE_CHECKING:
    from pipeline.announcing.contract import Announcement

__all__ = ["Command"]


class Command:
    """Runs a command, without a shell; exit code 0 means that it has the announcement."""

    def __init__(self, text: str) -> None:
        """Take a command and its arguments, quoted as in a shell.

        Raises:
            CollectionError: there is no such program.
        """
        try:
            self._words = shlex.split(text)
        except ValueError as error:
            message = f"cannot read the command {text!r}: {error}"
            raise CollectionError(message) from error
        if not self._words or shutil.which(self._words[0]) is None:
            program = self._words[0] if self._words else ""
            message = f"there is no program {program!r} to announce to; give command:PROGRAM ..."
            raise CollectionError(message)
        self.name = f"command {self._words[0]}"

    def publish(self, announcement: Announcement) -> None:
        """Run it and wait until it ends; see ``Publisher``."""
        try:
            code = subprocess.run(  # noqa: S603 - it is the user's own
                self._words, input=announcement.body + b"\n", check=False
            ).returncode
        except OSError as error:
            why = error.strerror or str(error)
        else:
            if code == 0:
                return
            why = f"it ended with exit code {code}" if code > 0 else f"signal {-code} ended it"
        message = f"cannot announce {announcement.event['subject']} to {self.name}: {why}"
        raise UndeliveredError(message)

    def close(self) -> None:
        """Do nothing: none is left running."""

"""Files and folders of this machine that flags name."""

from __future__ import annotations

import logging
import os
import re
import stat
from pathlib import Path

from batch_collection.errors import CollectionError

__all__ = ["local_path", "obstacle", "read_text", "warn_if_others_read"]


_logger = logging.getLogger(__name__)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")
_MOST_BYTES = 16 * 2**20  # a device may have no end


def local_path(text: str, flag: str) -> Path:
    """Return a path of this machine, absolute, as a flag names it; ``~`` is the user's own.

    Raises:
        CollectionError: it is a URL, which would make a folder of that name, or is of no user.
    """
    if _URL.match(text):
        message = f"{flag}={text} is a URL, and the flag takes a path of this machine only"
        raise CollectionError(message)
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as error:  # Python knows no home for ~
        message = f"{flag}={text}: no such user as {Path(text).parts[0]}; give the whole path"
        raise CollectionError(message) from error


def obstacle(folder: Path) -> str | None:
    """Say why a folder can't be made or written; None if nothing is known against it."""
    there = next(each for each in (folder, *folder.parents) if os.path.lexists(each))
    if not there.is_dir():
        return f"{there} is no directory"
    if not os.access(there, os.W_OK | os.X_OK):
        return f"{there} can't be written by this user"
    return None


def read_text(path: str, flag: str) -> str:
    """Return what a file holds that a flag names, without the mark that Windows puts before it.

    Raises:
        CollectionError: it can't be read.
    """
    try:
        with local_path(path, flag).open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) <= _MOST_BYTES:
            return content.decode("utf-8-sig")
        reason = f"it is larger than {_MOST_BYTES // 2**20} MiB; name another file"
    except UnicodeDecodeError as error:
        reason = f"it is no UTF-8 from byte {error.start} on; save it as UTF-8"
    except OSError as error:
        reason = error.strerror or str(error)
    message = f"cannot read {flag}={path}: {reason}"
    raise CollectionError(message)


def warn_if_others_read(path: Path, flag: str) -> None:
    """Log a warning if every user of this machine can read a file, which holds a secret."""
    path = path.resolve()
    reached = all(folder.stat().st_mode & stat.S_IXOTH for folder in path.parents)
    if reached and path.stat().st_mode & stat.S_IROTH:
        _logger.warning(
            "%s=%s holds a secret, and other users of this machine can read it; chmod 600 it",
            *(flag, path),
        )

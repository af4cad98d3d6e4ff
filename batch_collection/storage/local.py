"""A storage in a directory: each step is durable when it returns."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from batch_collection.errors import AlreadyExistsError, FileGoneError, StorageError
from batch_collection.paths import (
    CARRY,
    DATA,
    DEAD_LETTERS,
    IDS,
    LOG,
    STAGING,
    WINDOWS,
    draft_path,
    drafted_path,
    new_token,
)
from batch_collection.storage.contract import Sink
from batch_collection.storage.syncing import sync_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from typing_extensions import Buffer

__all__ = ["LocalStorage", "open_directory"]


_OURS = {CARRY, LOG, STAGING}
_REACHED = (DATA, DEAD_LETTERS, IDS, LOG, WINDOWS)  # from staging, by rename or link
_PROBE = f"{STAGING}/.probe"
_TRIES = 10  # others may remove a draft, or a folder that is empty, between two steps of ours


@dataclass(frozen=True, slots=True)
class LocalStorage:
    """A directory on a local file system with hard links, ``rename`` and ``fsync``.

    What is created or replaced is written as a draft first (``names.draft_path``); a process that
    is killed may leave one, which ``publish.sweep`` removes.
    """

    root: str

    @property
    def uri(self) -> str:
        """The directory."""
        return self.root

    @property
    def is_far(self) -> bool:
        """No."""
        return False

    def local_path(self, path: str) -> Path:
        """Return the path below the directory."""
        return Path(self.root, path)

    def create(self, path: str, content: bytes) -> None:
        """Create by hard link: whole or not at all, and only one wins."""
        if self._put_all([(path, content)], os.link):
            self.settle(path)
            message = f"{path} exists already"
            raise AlreadyExistsError(message)

    def settle(self, path: str) -> None:
        """Sync the names that lead to the file; its content was synced before it got this one.

        What follows in the life of an entry moves files and deletes some: where it could not, it is
        said here, before anything is done.
        """
        with _failing("sync", path):
            for folder in sorted(_OURS):
                self._check_is_ours(f"{folder}/")
            self._sync([self.local_path(path).parent])

    def replace(self, path: str, content: bytes) -> None:
        """Replace by rename."""
        self._put_all([(path, content)], os.replace)

    def create_all(self, files: Sequence[tuple[str, bytes]]) -> list[str]:
        """Create by hard links of drafts that were written together."""
        return self._put_all(files, os.link)

    def _put_all(
        self, files: Sequence[tuple[str, bytes]], put: Callable[[Path, Path], object]
    ) -> list[str]:
        """Write durable drafts, ``put`` them in place and sync; return the names that were taken.

        Drafts that were swept meanwhile are written again.
        """
        left, taken = list(files), list[str]()
        for _ in range(_TRIES):
            drafts = [(draft_path(path, new_token()), content) for path, content in left]
            with contextlib.suppress(FileNotFoundError):  # all are left
                self._write_all(drafts)
                swept = []
                for (path, content), (draft, _) in zip(left, drafts, strict=True):
                    try:
                        if not self._put(self.local_path(draft), path, put):
                            taken.append(path)
                    except FileNotFoundError:
                        swept.append((path, content))
                left = swept
            if not left:
                with _failing("sync", self.root):
                    self._sync({self.local_path(path).parent for path, _ in files})
                return taken
        # nobody sweeps that often: there can be no such file here
        message = f"cannot write {left[0][0]} in {self.root}: {os.strerror(errno.ENOENT)}"
        raise StorageError(message)

    def _put(self, draft: Path, path: str, put: Callable[[Path, Path], object]) -> bool:
        """Give a draft its name, or leave none; tell whether it got it, and nobody had it.

        Raises:
            FileNotFoundError: the draft was swept.
        """
        target = self.local_path(path)
        with _failing("write", path):
            try:
                self._check_is_ours(path)
                _in_folder(target.parent, lambda: put(draft, target))
            except FileExistsError:
                return False
            finally:
                draft.unlink(missing_ok=True)
        return True

    def write(self, path: str) -> Sink:
        """Open a new file whose ``close`` syncs it and the names that lead to it."""
        return self._opened(path, lambda: self._sync([self.local_path(path).parent]))

    def write_all(self, files: Sequence[tuple[str, bytes]]) -> None:
        """Write all, sync each, then once the names that lead to them."""
        self._write_all(files)
        with _failing("sync", self.root):
            self._sync({self.local_path(path).parent for path, _ in files})

    def _write_all(self, files: Sequence[tuple[str, bytes]]) -> None:
        """Write files whose content is durable, but not their names."""
        sinks: list[Sink] = []
        try:
            for path, content in files:
                sinks.append(self._opened(path, lambda: None))
                sinks[-1].write(content)
            for sink in sinks:
                sink.close()
        except BaseException:
            for sink in sinks:
                sink.abandon()
            raise

    def _opened(self, path: str, sync: Callable[[], None]) -> Sink:
        with _failing("write", path):
            self._check_is_ours(path)
            target = self.local_path(path)
            return _LocalSink(_in_folder(target.parent, lambda: target.open("xb")), path, sync)

    def read(self, path: str) -> bytes:
        """Return a file's content."""
        with _failing("read", path), io.FileIO(f"{self.root}/{path}", opener=_regular) as file:
            return file.readall()

    def open(self, path: str) -> BinaryIO:
        """Open a file for reading."""
        with _failing("read", path):
            return io.BufferedReader(io.FileIO(f"{self.root}/{path}", opener=_regular))

    def size(self, path: str) -> int | None:
        """Return a file's size, None if there is none."""
        with _failing("read", path):
            try:
                return self.local_path(path).stat().st_size
            except (FileNotFoundError, NotADirectoryError):
                return None

    def move(self, moves: Iterable[tuple[str, str]]) -> None:
        """Rename each file, sync the names of all, then remove the folders left empty."""
        left, reached = set[str](), set[str]()
        for source, target in moves:
            folder, _, _ = source.rpartition("/")
            with _failing("move", source):
                if folder not in left:
                    self._check_is_ours(source)
                    left.add(folder)
                reached.add(target.rpartition("/")[0])
                self._rename(source, target)
        with _failing("sync", self.root):
            self._sync(map(self.local_path, reached))
        _remove_empty(map(self.local_path, left))

    def check_moves(self) -> None:
        """Rename an empty folder from ``staging`` into each folder that things come to.

        One that isn't there will be made in the root. A mount of the same file system has the same
        device, and is not the same for ``rename``: so looking at numbers would not do.
        """
        there = [folder for folder in _REACHED if os.path.lexists(self.local_path(folder))]
        try:
            for folder in ("", *there):
                self._check_move(folder)
        finally:
            _remove_empty([self.local_path(_PROBE), self.local_path(STAGING)])

    def _check_move(self, folder: str) -> None:
        target = self.local_path(folder) / ".probe"
        where = f"{self.root}/{folder}".rstrip("/")
        try:
            for _ in range(_TRIES):
                self.local_path(_PROBE).mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(FileNotFoundError):  # who starts beside us was faster
                    self.local_path(_PROBE).rename(target)
                    break
            _remove_empty([target])
            self.local_path(folder).stat()
        except OSError as error:
            message = f"cannot move files from {STAGING} to {where}: {error.strerror or error}"
            if error.errno == errno.EXDEV:
                message = (
                    f"{where} and {self.root}/{STAGING} lie on different file systems, so that "
                    "files can't be moved from there at once; put all folders of a collection on "
                    "one (--output may be a link to it)"
                )
            raise StorageError(message) from error

    def list(self, prefix: str, start: str = "", end: str = "") -> Iterator[str]:
        """Yield the files below a folder; none if it isn't there."""
        return (path for path in self._below(prefix) if start <= path and (not end or path <= end))

    def _below(self, prefix: str) -> Iterator[str]:
        folders = [prefix.rstrip("/")]
        while folders:
            folder = folders.pop()
            try:
                with os.scandir(self.local_path(folder)) as found:
                    for each in found:
                        path = f"{folder}/{each.name}" if folder else each.name
                        if not each.is_dir():
                            yield path
                        elif not each.is_symlink():
                            folders.append(path)
            except (FileNotFoundError, NotADirectoryError):
                continue  # removed, or never there
            except OSError as error:
                message = f"cannot list {self.local_path(folder)}: {error.strerror or error}"
                raise StorageError(message) from error

    def folders(self) -> Iterator[str]:
        """Yield the folders in the directory; none if it isn't there."""
        with _failing("list", self.root), contextlib.suppress(FileNotFoundError):
            yield from (each.name for each in os.scandir(self.root) if each.is_dir())

    def delete(self, paths: Iterable[str]) -> None:
        """Unlink the files, and the folders that this leaves empty, then sync where they were.

        That is done for what isn't there as well: whoever unlinked it may have died before that.
        """
        folders = set()
        for path in paths:
            with _failing("delete", path):
                self._check_is_ours(path)
                self.local_path(path).unlink(missing_ok=True)
            folders.add(self.local_path(path).parent)
        _remove_empty(folders)
        with _failing("sync", self.root):
            for folder in {_lowest_left(folder) for folder in folders}:
                _sync_lowest(folder)

    def _check_is_ours(self, path: str) -> None:
        """See that a file that comes or goes lies where it seems to, not behind a link."""
        parts = path.split("/")[:-1]
        if parts and parts[0] in _OURS:
            for depth in range(1, len(parts) + 1):
                folder = "/".join(parts[:depth])
                if os.path.islink(f"{self.root}/{folder}"):  # noqa: PTH114 - of many
                    message = (
                        f"{folder} is a symbolic link, whose files are not the collection's; "
                        "put the folder itself in its place"
                    )
                    raise OSError(errno.ELOOP, message)

    def _rename(self, source: str, target: str) -> None:
        with contextlib.suppress(FileNotFoundError):  # mostly the folder is there already
            os.rename(f"{self.root}/{source}", f"{self.root}/{target}")  # noqa: PTH104 - of many
            return
        origin, destination = self.local_path(source), self.local_path(target)
        if not origin.exists() and destination.exists():
            return
        try:
            _in_folder(destination.parent, lambda: origin.rename(destination))
        except FileNotFoundError as error:
            if destination.exists():
                return  # somebody publishes the same entry beside us
            message = f"cannot move {source}: it is gone, and {target} is not there either"
            raise FileGoneError(message) from error

    def _sync(self, folders: Iterable[Path]) -> None:
        """Sync folders and those above: each may be new, made by a process that has died since."""
        above = set[str]()
        for folder in map(str, folders):
            while len(folder) > len(self.root) and folder not in above:
                above.add(folder)
                folder = folder.rpartition("/")[0]  # noqa: PLW2901 - on its way up
        for folder in (*sorted(above, key=len, reverse=True), self.root):
            sync_folder(folder)


def open_directory(path: str) -> LocalStorage:
    """Return the storage of a directory, which need not be there; ``~`` is the user's own.

    Raises:
        StorageError: it is below the folder of a user whom nobody knows.
    """
    try:
        return LocalStorage(str(Path(path).expanduser().absolute()))
    except RuntimeError as error:  # Python knows no home for ~
        message = f"no such user as {Path(path).parts[0]}; give the whole path"
        raise StorageError(message) from error


class _LocalSink(Sink):
    def __init__(self, file: BinaryIO, path: str, sync: Callable[[], None]) -> None:
        super().__init__()
        self._file, self._path, self._sync = file, path, sync

    def write(self, content: Buffer) -> int:
        with _failing("write", self._path):
            return self._file.write(content)

    def flush(self) -> None:
        if not self._file.closed:  # io's own close flushes, too
            with _failing("write", self._path):
                self._file.flush()

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        if self.closed:
            return
        try:
            with _failing("write", self._path):
                self._file.flush()
                os.fsync(self._file.fileno())
                self._file.close()
                self._sync()
        except BaseException:
            self.abandon()
            raise
        super().close()

    def abandon(self) -> None:
        if self.closed or not hasattr(self, "_file"):
            return
        with contextlib.suppress(OSError):
            self._file.close()
        super().close()
        with contextlib.suppress(OSError):
            Path(self._file.name).unlink(missing_ok=True)


@contextlib.contextmanager
def _failing(verb: str, path: str) -> Iterator[None]:
    """Turn what the operating system says into one clear line; a missing file stays one."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        message = f"cannot {verb} {drafted_path(path) or path}: {error.strerror or error}"
        raise StorageError(message) from error


def _regular(path: str, flags: int) -> int:
    """Open a file, but nothing that is no file: a pipe would be waited for, for ever."""
    handle = os.open(path, flags | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is no regular file")
    return handle


def _in_folder(folder: Path, act: Callable[[], Any]) -> Any:
    """Do what needs a folder, made if need be; others may be removing it as an empty one."""
    for _ in range(_TRIES):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # the folder's own error
            return act()
        with contextlib.suppress(FileNotFoundError):
            _make_folders(folder)
    return act()


def _make_folders(folder: Path) -> None:
    """Make a folder and its parents, each one's name durable in its parent."""
    if folder.is_dir():
        return
    _make_folders(folder.parent)
    try:
        folder.mkdir()
    except FileExistsError as error:  # not to be taken for a lost create
        if not stat.S_ISDIR(folder.stat().st_mode):  # not found: somebody has just removed it
            raise NotADirectoryError(errno.ENOTDIR, f"{folder} is no folder") from error
    with contextlib.suppress(FileNotFoundError):
        sync_folder(str(folder.parent))


def _remove_empty(folders: Iterable[Path]) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):  # not empty, or gone
            folder.rmdir()


def _lowest_left(folder: Path) -> Path:
    """Return the folder, or the lowest one above it that is there."""
    return next((each for each in (folder, *folder.parents) if each.is_dir()), folder)


def _sync_lowest(folder: Path) -> None:
    """Sync a folder, or one above it if somebody is just removing it."""
    try:
        sync_folder(str(folder))
    except FileNotFoundError:
        _sync_lowest(folder.parent)

"""What a collector would meet, without one: what it may read and write, and where it goes on."""

from __future__ import annotations

from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, cast

from batch_collection.collection import open as open_view
from batch_collection.counted import counted
from batch_collection.errors import AlreadyExistsError, CollectionError, StorageError
from batch_collection.log.end import end_of_log
from batch_collection.paths import STAGING, draft_path, new_token, staged_path
from batch_collection.storage.opening import open_storage
from batch_collection.windows import utc_now
from pipeline.planning.joining import names_now, pattern_of
from pipeline.planning.log_keeper import check_writable
from pipeline.planning.opening import pins_of, plan_rules, survey_of
from pipeline.planning.pins import check_source
from pipeline.planning.planner import Asked
from pipeline.planning.previewing import first_messages
from pipeline.planning.survey import Survey
from transforms.sources.pubsub.settings import SubscriptionSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from batch_collection.storage.contract import Storage
    from pipeline.options.collect import CollectOptions
    from pipeline.planning.pull_survey import PullSurvey
    from transforms.sources.contract import AddressedSource, Connection, LeasedSource
    from transforms.sources.pubsub.settings import Subscriptions

__all__ = ["Check", "checks"]


class Check(NamedTuple):
    """One thing that was tried.

    Attributes:
        what: what it is about.
        said: what was found, or what is wrong with it and what to do.
        is_good: whether a collector could begin, as far as this goes.
    """

    what: str
    said: str
    is_good: bool = True


def checks(options: CollectOptions) -> Iterator[Check]:
    """Try what a collector with these options needs, one thing after the other.

    No message is collected, no offset committed, and no file stays.
    """
    settings = options.source
    pattern = pattern_of(options)
    names = settings.collections if pattern is None else ("",)
    for uri in (f"{options.output}/{name}".rstrip("/") for name in names):
        yield _tried(f"output {uri}", lambda uri=uri: _written(open_storage(uri)))  # type: ignore[misc]
    try:
        connection = settings.connect()
    except CollectionError as error:
        yield Check(settings.where, str(error), is_good=False)
        return
    with closing(connection):
        answer = _tried(settings.where, lambda: _answered(connection))
        if not answer.is_good or not isinstance(settings, SubscriptionSettings):
            yield answer  # a subscription says so itself
        if answer.is_good:
            there = names_now(options, connection)
            if pattern is not None:
                yield Check(f"--topics={pattern}", f"{counted(len(there), 'topic')} match")
            for name in there:
                yield from _Stream(options, connection, name).checks()


def _tried(what: str, attempt: Callable[[], str]) -> Check:
    try:
        return Check(what, attempt())
    except CollectionError as error:
        return Check(what, str(error), is_good=False)


def _answered(connection: Connection | Subscriptions) -> str:
    connection.sources(())
    return "it answers"


def _written(storage: Storage) -> str:
    """See that files can be made, moved and deleted, and that of two who make one only one wins."""
    with _left_as_it_was(storage):
        _check_fence(storage)
        check_writable(storage)
    return "files can be made there, each by one process only, and moved"


def _check_fence(storage: Storage) -> None:
    path = staged_path(0, f"/probe-{new_token()}")  # as in check_writable
    storage.create(path, b"")
    try:
        with suppress(AlreadyExistsError):
            storage.create(path, b"")
            message = (
                f"{storage.uri} lets two processes create the same file: two collectors could "
                "commit the same cycle there; use another --output"
            )
            raise StorageError(message)
    finally:
        storage.delete([path])


@contextmanager
def _left_as_it_was(storage: Storage) -> Iterator[None]:
    """Remove the folders that are made meanwhile; an object store has none."""
    root = storage.local_path("")
    if root is None:
        yield
        return
    drafts = (root / draft_path("", "")).parent
    folders = (drafts, root / STAGING, root, *root.parents)
    made = [folder for folder in folders if not folder.exists()]
    try:
        yield
    finally:
        for folder in made:
            with suppress(OSError):  # somebody begins a collection there meanwhile
                folder.rmdir()


@dataclass(frozen=True, slots=True)
class _Stream:
    """One topic or subscription, which is looked up once."""

    options: CollectOptions
    connection: Connection | Subscriptions
    name: str

    def checks(self) -> Iterator[Check]:
        """Try to find it, to read it, and to go on with its collection."""
        try:
            (source,) = self.connection.sources([self.name])
        except CollectionError as error:
            yield Check(self.name, str(error), is_good=False)
            return
        survey = survey_of(self.options, source, is_here=False)
        looked = _tried(self.name, lambda: self._looked(source))
        yield looked
        if not looked.is_good:
            return
        if isinstance(survey, Survey):
            yield _tried(f"reading {self.name}", lambda: self._read(survey.source))
            yield from self._group(survey.source)
        storage = open_storage(f"{self.options.output}/{source.name}")
        yield _tried(f"collection {storage.uri}", lambda: self._gone_on(survey, storage))

    def _looked(self, source: AddressedSource | LeasedSource) -> str:
        if isinstance(self.options.source, SubscriptionSettings):
            notes = cast("LeasedSource", source).terms().notes
            return "; ".join(["it is there, and messages may be pulled; none was", *notes])
        bounds = cast("AddressedSource", source).bounds()
        messages = sum(there.end - there.first for there in bounds.values())
        return f"{counted(len(bounds), 'partition')}, {counted(messages, 'message')}"

    def _read(self, source: AddressedSource) -> str:
        settings = self.options.source
        assert not isinstance(settings, SubscriptionSettings)  # noqa: S101 - asked for topics only
        slices = first_messages(source.name, source.bounds(), 1)
        for _ in settings.reader().read(slices, skip_lost=True):
            pass
        return "a message was read" if slices else "there is no message to try it with"

    def _group(self, source: AddressedSource) -> Iterator[Check]:
        group = getattr(self.options.source, "group_id", None)
        if group is not None:

            def asked() -> str:
                return f"it has committed offsets of {len(source.remembered())} partitions"

            yield _tried(f"group {group} of {self.name}", asked)

    def _gone_on(self, survey: Survey | PullSurvey, storage: Storage) -> str:
        """Say where a collector would begin or go on, as ``open_collection`` finds it."""
        pins, end = pins_of(self.options), end_of_log(storage)
        identity = survey.identity()
        if end is None:
            pins.check_schema(None, storage.uri)
            survey.starts(pins.start)
            return f"it is new, and begins with --start={pins.start}"
        newest = end.entry
        check_source(newest, identity, storage.uri)
        if newest.cause == "start" and pins.differ_from(newest):
            pins.check_schema(None, storage.uri)
            return "nothing is collected yet, so it begins with these flags"
        pins.check(newest, storage.uri)
        pins.check_schema(newest, storage.uri)
        if isinstance(survey, Survey):  # whether messages are gone
            rules = plan_rules(self.options, survey.name, new_token())
            survey.plan(newest, utc_now(), rules, Asked(previous=end.digest))
        view = open_view(storage)
        return f"it goes on after cycle {newest.cycle}, with {counted(view.rows, 'row')}"

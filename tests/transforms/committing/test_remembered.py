"""Which ids an entry names: held to laws over many cycles."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import count
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from batch_collection.log.entry import Entry, IdFile
from tests.tasks import MINUTE, NOON
from tests.transforms.committing.test_settle import entry, plan, settled, whole
from transforms.committing.remembered import ids_of
from transforms.elements.report import Gathered, Report
from transforms.sources.contract import Remembering

RULES = Remembering(horizon=10 * MINUTE, retention=30 * MINUTE)


def listed(name: str, **changes: Any) -> IdFile:
    """Return a list of ids, as a task reports it."""
    return replace(IdFile(f"ids/{name}", f"staging/{name}", 3, 1, "0"), **changes)


def later(before: Entry, minutes: float, *tasks: Report) -> Entry:
    """Return the next entry, so many minutes later."""
    at = before.committed_at + timedelta(minutes=minutes)
    found = ids_of(plan(remembering=RULES), before, tasks, at)
    return replace(before, committed_at=at, **found)


def test_an_entry_names_what_its_tasks_claimed_and_what_may_come_again() -> None:
    """With the rest of the account; those of a stopped pull say since when more waits."""
    old = listed("old", staged="", named_at=NOON)
    reports = [
        whole(0, claims=(listed("a"),), repeated=2, left=1, oldest=NOON),
        whole(1, claims=(listed("b"),), repeated=3, oldest=NOON - MINUTE),
    ]
    found = settled(reports, entry(ids=(old,)), tasks=2)
    assert [file.path for file in found.ids] == ["ids/old", "ids/a", "ids/b"]
    assert {file.named_at for file in found.ids} == {NOON}
    assert found.new_ids == found.ids[1:]
    assert ("staging/a", "ids/a") in found.moves
    assert (found.repeated, found.backlog_from) == (5, NOON - MINUTE)
    assert Entry.from_json(found.to_json()) == found
    own = {name: getattr(found, name) for name in ("run", "plan", "host", "pid", "committed_at")}
    quiet = found.following("0" * 64, cause="pin", **own)
    assert [file.path for file in quiet.ids] == ["ids/old", "ids/a", "ids/b"]
    assert (quiet.moves, quiet.repeated) == ((), 0)


def test_what_is_acknowledged_goes_when_the_horizon_has_passed_since() -> None:
    """And what is not when the source has it no longer; a long gap counts as one interval."""
    names = later(entry(), 1, whole(claims=(listed("a"), listed("b"))))
    answered = later(names, 1, whole(acknowledged=("ids/a",)))
    assert [(file.acknowledged, file.age) for file in answered.ids] == [(True, 0), (False, 60)]
    gap = later(answered, 1_000)
    for _ in range(8):
        gap = later(gap, 1)
    assert len(gap.ids) == 2
    gone = later(gap, 1)
    assert ([file.path for file in gone.ids], gone.ids_released) == (["ids/b"], ("ids/a",))
    for _ in range(19):
        gone = later(gone, 1)
    assert gone.ids_released == ("ids/b",)


STEP = st.fixed_dictionaries(
    {
        "minutes": st.sampled_from([0.5, 1, 5, -3]),
        "claims": st.integers(0, 2),
        "acknowledged": st.sets(st.integers(0, 6)),
        "gathered": st.sets(st.integers(0, 6)),
    }
)


@given(st.lists(STEP, max_size=60))
@settings(deadline=None, max_examples=60)
def test_ids_are_named_as_long_as_their_messages_may_come_again(steps: list[Any]) -> None:
    """Whatever is acknowledged and merged when; no longer than both spans, and in one file."""
    numbers = count()
    holds: dict[str, set[int]] = {}  # by file
    born: dict[int, float] = {}
    answered: dict[int, float] = {}
    now, before = 0.0, entry()
    for step in steps:
        now += min(max(step["minutes"], 0), 1)
        paths = [file.path for file in before.ids]
        said = tuple(paths[n] for n in step["acknowledged"] if n < len(paths))
        of = tuple(paths[n] for n in sorted(step["gathered"]) if n < len(paths))
        claims = tuple(listed(f"c{next(numbers)}") for _ in range(step["claims"]))
        for claim in claims:
            holds[claim.path] = {next(numbers)}
            born |= dict.fromkeys(holds[claim.path], now)
        for path in said:
            answered |= {each: answered.get(each, now) for each in holds[path]}
        merged = listed(f"m{next(numbers)}")
        holds[merged.path] = {each for path in of for each in holds[path]}
        gathered = (Gathered(merged, of),) if of else ()
        after = later(
            before, step["minutes"], whole(claims=claims, acknowledged=said, gathered=gathered)
        )
        named = [each for file in after.ids for each in holds[file.path]]
        assert len(named) == len(set(named))
        for each, since in born.items():
            is_needed = now < since + 30 if each not in answered else now < answered[each] + 10
            assert each in named or not is_needed
        known = {file.path for file in before.ids}
        assert set(after.ids_released) == known - {file.path for file in after.ids}
        assert all(file.named_at is not None for file in after.ids)
        before = after

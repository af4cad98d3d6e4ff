"""What is kept once a process, and what a new one begins with."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from transforms.process.process import Process, current, new_process


def test_what_is_kept_is_made_once_whatever_thread_asks() -> None:
    """Threads that ask meanwhile wait for it."""
    process, made, both = Process(), list[object](), threading.Barrier(2, timeout=10)

    def make() -> object:
        made.append(object())
        return made[-1]

    def ask(_: int) -> object:
        both.wait()
        return process.kept("key", make)

    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(ask, range(2)))

    assert found == [made[0]] * 2
    assert process.kept("another", make) is made[1]


def test_what_is_kept_ends_with_its_process_the_last_first() -> None:
    """What was made with the help of something else ends before it."""
    ended: list[str] = []
    with new_process() as process:
        for name in ("first", "second"):
            process.kept(name, lambda name=name: name, ended.append)  # type: ignore[misc]
        process.kept("no end", list)
        assert ended == []

    assert ended == ["second", "first"]


def test_threads_are_shared_by_name_and_begin_nothing_once_it_is_closed() -> None:
    """What they are doing then goes on, and nobody waits for it."""
    go_on, begun = threading.Event(), threading.Event()

    def work() -> bool:
        begun.set()
        return go_on.wait(10)

    with new_process() as process:
        threads = process.threads("work", 1)
        assert process.threads("work", 1) is threads
        assert process.threads("other work", 1) is not threads
        working = threads.submit(work)
        assert begun.wait(10)

    assert not working.done()
    go_on.set()
    assert working.result(10)
    with pytest.raises(RuntimeError, match="after shutdown"):
        threads.submit(work)


def test_a_new_process_has_nothing_of_the_one_around_it() -> None:
    """Which goes on as it was; also where the block raises."""
    outer = current()
    outer.stop.set()
    outer.abandoned.add("attempt")
    outer.observers.append(print)
    outer.is_awaited = True
    kept = outer.kept("key", object)
    with new_process() as process:
        assert current() is process
        assert not process.stop.is_set()
        assert (process.observers, process.abandoned, process.is_awaited) == ([], set(), False)
        assert process.kept("key", object) is not kept

    assert current() is outer
    assert outer.stop.is_set()
    assert outer.kept("key", object) is kept


def test_processes_of_two_threads_may_end_in_any_order() -> None:
    """The first that ends does not take the other away."""
    outer = current()
    first, second = new_process(), new_process()
    first.__enter__()
    inner = second.__enter__()
    first.__exit__(None, None, None)
    assert current() is inner
    second.__exit__(None, None, None)

    assert current() is outer

"""Work in threads: who waits for it goes on when it has ended, however often he is cancelled."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from ocitui.threads import Stop, in_thread, look_up_apart, made_ahead, settled
from tests.tools import PATIENT_SECONDS

Wait = Callable[[Callable[[], None]], Awaitable[object]]


def by_thread(work: Callable[[], None]) -> Awaitable[object]:
    return in_thread(lambda stop: work())


def by_task(work: Callable[[], None]) -> Awaitable[object]:
    return settled(asyncio.to_thread(work))


@pytest.mark.parametrize("wait", [by_thread, by_task])
@pytest.mark.parametrize("fails", [True, False])
async def test_a_cancelled_caller_waits_for_the_end(wait: Wait, fails: bool) -> None:
    loop, told = asyncio.get_running_loop(), list[dict[str, Any]]()
    loop.set_exception_handler(lambda _, context: told.append(context))
    began, go_on = asyncio.Event(), threading.Event()

    def work() -> None:
        loop.call_soon_threadsafe(began.set)
        go_on.wait()
        if fails:
            raise ValueError("of the thread")

    waiting = asyncio.ensure_future(wait(work))
    await began.wait()
    over = list[bool]()
    for _ in range(3):
        waiting.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        over.append(waiting.done())
    go_on.set()
    assert over == [False] * 3
    with pytest.raises(asyncio.CancelledError):
        await waiting
    del waiting
    gc.collect()
    assert told == []


def test_a_loop_that_ends_waits_for_the_end() -> None:
    ended = list[str]()
    go_on = threading.Event()

    def work(stop: Stop) -> None:
        go_on.wait()
        ended.append("work")

    async def wait() -> None:
        try:
            await in_thread(work)
        finally:
            ended.append("caller")

    async def main() -> None:
        waiting = asyncio.ensure_future(wait())
        await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        loop.call_later(0, lambda: loop.call_later(0, lambda: loop.call_later(0, go_on.set)))
        assert not waiting.done()

    asyncio.run(main())
    assert ended == ["work", "caller"]


async def test_what_the_work_gives_or_raises() -> None:
    assert await in_thread(lambda stop: 7) == await settled(asyncio.sleep(0, 7)) == 7
    for wait in (by_thread, by_task):
        with pytest.raises(ZeroDivisionError):
            await wait(lambda: 1 // 0)  # type: ignore[arg-type]


def test_a_resolver_that_is_silent_holds_no_end_up(monkeypatch: pytest.MonkeyPatch) -> None:
    silent, asked = threading.Event(), threading.Event()

    def getaddrinfo(host: str, port: int, **hints: Any) -> list[Any]:
        asked.set()
        silent.wait()
        raise OSError("no answer")

    monkeypatch.setattr("ocitui.threads.socket.getaddrinfo", getaddrinfo)

    async def look_up() -> None:
        loop = asyncio.get_running_loop()
        look_up_apart(loop)
        looking = asyncio.ensure_future(loop.getaddrinfo("registry.example", 443))
        await asyncio.to_thread(asked.wait)
        looking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await looking

    program = threading.Thread(target=lambda: asyncio.run(look_up()))
    program.start()
    program.join(PATIENT_SECONDS)
    has_ended = not program.is_alive()
    silent.set()
    assert has_ended, "it waits for the resolver"
    for thread in threading.enumerate():
        if thread.name == "ocitui-look-up":
            thread.join()


async def test_hosts_are_looked_up_apart_as_they_are_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    usual = await loop.getaddrinfo("127.0.0.1", 443)
    look_up_apart(loop)
    assert await loop.getaddrinfo("127.0.0.1", 443) == usual

    def getaddrinfo(*place: Any, **hints: Any) -> list[Any]:
        raise socket.gaierror(-2, "no such host")

    monkeypatch.setattr("ocitui.threads.socket.getaddrinfo", getaddrinfo)
    with pytest.raises(socket.gaierror, match="no such host"):
        await loop.getaddrinfo("registry.example", 443)


def test_what_is_made_ahead_at_once_comes_in_order() -> None:
    second = threading.Event()

    def first() -> int:
        return 1 if second.wait(PATIENT_SECONDS) else 0

    def other() -> int:
        second.set()
        return 2

    with made_ahead(iter([first, other, lambda: 3]), 2, 2) as made:
        assert [*made] == [1, 2, 3]

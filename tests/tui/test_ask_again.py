"""A mirror is asked again for as long as the screen is there."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

import pytest

from ocitui.remote import HostMirror
from ocitui.remote.ssh import HostSilentError
from ocitui.tui import live_host
from ocitui.tui.live_host import LiveHost
from tests.cache.support import until


class Asked:
    """A host that hangs as the connection is opened, or once it is asked; or does not answer until it ``answers``."""

    def __init__(self, *, hangs: str = "", answers: bool = False) -> None:
        self.hangs, self.answers, self.times = hangs, answers, 0

    async def __aenter__(self) -> Asked:
        await self._hang("opened")
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def ask(self) -> None:
        self.times += 1
        await self._hang("asked")
        if not self.answers:
            raise HostSilentError("web1 does not answer")

    async def _hang(self, at: str) -> None:
        if self.hangs == at:
            await asyncio.Event().wait()


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_host, "_ASK_SECONDS", 0.01)
    monkeypatch.setattr(live_host, "_TICK_SECONDS", 0.01)


@pytest.mark.parametrize("at", ["opened", "asked"])
async def test_the_age_is_told_while_a_host_hangs(at: str, tmp_path: Path) -> None:
    told = list[None]()
    mirror = cast(HostMirror, Asked(hangs=at))
    asking = asyncio.ensure_future(live_host.ask_again(mirror, LiveHost(tmp_path), lambda: told.append(None)))
    await until(lambda: len(told) > 5)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_why_it_does_not_answer_is_so_until_it_does(tmp_path: Path) -> None:
    asked, host = Asked(), LiveHost(tmp_path)
    asking = asyncio.ensure_future(live_host.ask_again(cast(HostMirror, asked), host, lambda: None))
    await until(lambda: host.unanswered == "web1 does not answer")
    asked.answers = True
    await until(lambda: not host.unanswered)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

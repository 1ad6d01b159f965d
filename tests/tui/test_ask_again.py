"""A mirror is asked again for as long as the screen is there."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from ocitui.remote import HostMirror
from ocitui.tui import live_host


class Hanging:
    """A host that never answers."""

    async def __aenter__(self) -> Hanging:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def ask(self) -> None:
        await asyncio.Event().wait()


async def test_the_age_is_told_while_a_host_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_host, "_ASK_SECONDS", 0.01)
    monkeypatch.setattr(live_host, "_TICK_SECONDS", 0.02)
    told = list[str]()
    asking = asyncio.ensure_future(live_host.ask_again(cast(HostMirror, Hanging()), told.append))
    await asyncio.sleep(0.5)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert len(told) > 5

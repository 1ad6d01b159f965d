"""Registries that only drip: taken to have broken off, asked again, and gone on with where they stopped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from msgspec.structs import replace

from ocitui.importing.errors import TransferError
from ocitui.importing.registry.client import RegistrySource
from ocitui.importing.registry.failures import PassingError, paced
from ocitui.importing.sources.references import RegistryOptions, SourceOptions
from ocitui.importing.staging import BlobStore
from tests.importing.image_makers import make_image, put
from tests.importing.pulling import AMD64, Waits, is_whole
from tests.importing.registry_server import FaultyRegistry, digest_of, serving

IMAGE = make_image(bytes(range(256)) * 1000)
HEAD = b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-Field-%d: value\r\n" % number for number in range(1000))
LAYER = digest_of(IMAGE.layers[0])


class Clock:
    """Goes on by so many seconds each time that it is looked at."""

    def __init__(self, step: float) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


class DrippingRegistry(FaultyRegistry):
    """Sends an answer a few bytes at a time, for as long as it is let, so many times."""

    def __init__(self) -> None:
        super().__init__()
        self.drips = 0
        self.body = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(IMAGE.layers[0]) + IMAGE.layers[0]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.drips:
            await super().serve(reader, writer)
            return
        self.drips -= 1
        try:
            await reader.readuntil(b"\r\n\r\n")
            for at in range(0, len(self.body), 5):
                writer.write(self.body[at : at + 5])
                await writer.drain()
                await asyncio.sleep(0.001)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # it ends, or wants who had this port before
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


@pytest.fixture
async def dripping() -> AsyncIterator[DrippingRegistry]:
    async with serving(DrippingRegistry()) as running:
        assert isinstance(running, DrippingRegistry)
        put(running, IMAGE, "v1")
        yield running


def options_of(waits: Waits, step: float) -> RegistryOptions:
    return RegistryOptions(
        plain_http=True, clock=Clock(step), sleep=waits.sleep, notify=waits.messages.append, environment={}
    )


async def test_a_layer_that_drips_is_resumed(dripping: DrippingRegistry, blobs: BlobStore) -> None:
    waits = Waits()
    source = RegistrySource(f"{dripping.host}/team/app:v1", SourceOptions(AMD64, options_of(waits, 2)))
    try:
        image = await source.resolve()
        dripping.drips = 1
        assert is_whole([one async for one in source.fetch(image, blobs)], IMAGE)
    finally:
        await source.aclose()
    assert "bytes in 6" in waits.messages[0]
    resumed = dripping.asked(LAYER)[0].headers["range"]
    assert resumed != "bytes=0-"
    assert waits.seconds == [1.0]


async def test_one_that_only_drips_is_given_up(dripping: DrippingRegistry, blobs: BlobStore) -> None:
    waits = Waits()
    source = RegistrySource(f"{dripping.host}/team/app:v1", SourceOptions(AMD64, options_of(waits, 20)))
    try:
        image = await source.resolve()
        dripping.drips = 100
        with pytest.raises(TransferError, match=r"sent only \d+ bytes in \d+ seconds \(after 5 tries\)"):
            [one async for one in source.fetch(image, blobs)]
    finally:
        await source.aclose()
    assert len(waits.seconds) == 4
    assert blobs.size() > 0


@pytest.mark.slow
async def test_an_answer_whose_head_never_ends(dripping: DrippingRegistry) -> None:
    waits = Waits()
    quick = replace(options_of(waits, 0), timeout=0.2, rate_seconds=0.2)
    source = RegistrySource(f"{dripping.host}/team/app:v1", SourceOptions(AMD64, quick))
    dripping.drips, dripping.body = 100, HEAD
    try:
        with pytest.raises(TransferError, match="gave no whole answer in"):
            await source.resolve()
    finally:
        await source.aclose()


async def dripped(clock: Clock, *drips: tuple[float, int]) -> AsyncIterator[bytes]:
    """Parts of so many bytes, each waited for so many seconds."""
    for seconds, count in drips:
        clock.step = seconds
        yield bytes(count)


async def test_the_average_of_a_while_counts() -> None:
    clock = Clock(0)
    options = RegistryOptions(clock=clock, least_rate=10, rate_seconds=60)
    parts = paced(dripped(clock, (59, 1), (1, 600), (59, 1), (1, 1)), "host", options)
    assert [len(await anext(parts)) for _ in range(3)] == [1, 600, 1]
    with pytest.raises(PassingError, match="host sent only 2 bytes in 60 seconds"):
        await anext(parts)


async def test_only_waiting_counts() -> None:
    clock = Clock(0)
    came = 0
    async for part in paced(dripped(clock, *[(0.1, 1)] * 100), "host", RegistryOptions(clock=clock)):
        clock.now += 1000  # the disk is slow, not the registry
        came += len(part)
    assert came == 100

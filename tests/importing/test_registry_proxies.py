"""Proxies that the environment names: used, left out for whom NO_PROXY names, and told of as what they are."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest

from ocitui.importing.errors import SourceError, TransferError
from ocitui.importing.staging import BlobStore
from tests.importing.http_proxy import Proxy, http_proxy
from tests.importing.image_makers import Made, make_image, put
from tests.importing.pulling import Pull, is_whole
from tests.importing.registry_server import FaultyRegistry

VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def no_proxy_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with http_proxy() as running:
        yield running


@pytest.fixture
def image(registry: FaultyRegistry) -> Made:
    return put(registry, make_image(b"x" * 1000), "v1")


@pytest.fixture
def dead() -> str:
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


async def test_a_proxy_is_used(pull: Pull, proxy: Proxy, image: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://{proxy.address}")
    assert is_whole(await pull.run(), image)
    assert {one.method for one in proxy.passed} == {"GET"}
    assert len(proxy.asked("/blobs/")) == 2, "the config and the layer"


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
async def test_a_dead_proxy_is_named_and_no_proxy_goes_round_it(
    pull: Pull, image: Made, dead: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, f"http://anna:PASS@{dead}")
    with pytest.raises(SourceError) as raised:
        await pull.run()
    assert raised.value.message.startswith(f"the proxy {dead} ({variable}) cannot be reached")
    assert raised.value.hint == "see that the proxy is right and runs, or name 127.0.0.1 in NO_PROXY"
    assert pull.waits.seconds == []
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert is_whole(await pull.run(), image)


async def test_a_proxy_that_has_no_address(pull: Pull, image: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.invalid:3128")
    with pytest.raises(SourceError, match=r"no host the proxy proxy\.invalid:3128 \(HTTP_PROXY\)"):
        await pull.run()


async def test_a_proxy_that_refuses(blobs: BlobStore, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy.refuses = "407 Authorization: Basic UEFTUw=="
    monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.address}")
    with pytest.raises(SourceError) as raised:
        await Pull("registry.example/app", blobs, plain_http=False).run()
    said = f"the proxy {proxy.address} (HTTPS_PROXY) gives no way to registry.example: 407"
    assert raised.value.message == said
    assert [one.target for one in proxy.passed] == ["registry.example:443"]


async def test_a_proxy_that_is_silent(blobs: BlobStore, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy.silent = True
    monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.address}")
    with pytest.raises(TransferError) as raised:
        await Pull("registry.example/app", blobs, plain_http=False, timeout=0.1).run()
    said = f"registry.example by the proxy {proxy.address} (HTTPS_PROXY) sent nothing for 0.1 seconds (after 5 tries)"
    assert raised.value.message == said


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("ALL_PROXY", "socks5://127.0.0.1:1080", "ALL_PROXY names a proxy that speaks socks5"),
        ("HTTPS_PROXY", "ftp://127.0.0.1:1080", "HTTPS_PROXY names a proxy that speaks ftp"),
        ("HTTP_PROXY", "http://anna:PASS@[::1:3128", "HTTP_PROXY names a proxy with what is no address"),
        ("https_proxy", "anna:PASS@127.0.0.1:99999", "https_proxy names a proxy with what is no address"),
        ("HTTPS_PROXY", "http://anna:PASS@127.0.0.1:-1", "HTTPS_PROXY names a proxy with what is no address"),
    ],
)
async def test_a_proxy_that_cannot_be_used(
    pull: Pull, image: Made, variable: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SourceError) as raised:
        await replace(pull, plain_http=variable.lower() != "https_proxy").run()
    assert raised.value.message.startswith(said)
    assert "PASS" not in raised.value.one_line
    assert "unset" in raised.value.hint
    monkeypatch.delenv(variable)
    assert is_whole(await pull.run(), image)


@pytest.mark.parametrize("value", ["http://[::1]:1", "[::1]:1"])
async def test_an_ipv6_proxy_with_its_brackets(
    pull: Pull, image: Made, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", value)
    with pytest.raises(SourceError, match=r"the proxy ::1:1 \(HTTP_PROXY\) cannot be reached"):
        await pull.run()


async def test_an_odd_entry_of_no_proxy_is_passed_over(
    pull: Pull, image: Made, dead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", dead)
    monkeypatch.setenv("NO_PROXY", "[::1,*.example, 127.0.0.1")
    assert is_whole(await pull.run(), image)


async def test_the_proxy_of_a_scheme_goes_before_that_of_all(
    blobs: BlobStore, pull: Pull, proxy: Proxy, image: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    monkeypatch.setenv("HTTP_PROXY", f"http://{proxy.address}")
    assert is_whole(await pull.run(), image)
    assert len(proxy.asked("/blobs/")) == 2, "the config and the layer"
    with pytest.raises(SourceError, match="ALL_PROXY names a proxy that speaks socks5"):
        await Pull("registry.example/app", blobs, plain_http=False).run()


async def test_a_host_that_no_proxy_names_needs_none_that_can_be_used(
    pull: Pull, image: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert is_whole(await pull.run(), image)

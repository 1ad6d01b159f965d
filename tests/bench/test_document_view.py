"""A document of 20 MB, from bytes to what can be drawn, beside `json.loads` of the same text in the same run."""

import json
import time
from collections.abc import Callable

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from ocitui.tui.widgets.document_text import prepare
from ocitui.tui.widgets.document_view import Needle, find_all

SIZE = 20_000_000
ROUNDS = 3


def always() -> bool:
    return True


def seconds(step: Callable[[], object]) -> float:
    before = time.perf_counter()
    step()
    return time.perf_counter() - before


@pytest.fixture(scope="module")
def document() -> bytes:
    row = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": "sha256:" + "ab" * 32, "size": 12}
    return json.dumps({"layers": [row] * (SIZE // len(json.dumps(row)))}).encode()


def test_opening(benchmark: BenchmarkFixture, document: bytes) -> None:
    loads = min(seconds(lambda: json.loads(document)) for _ in range(ROUNDS))
    opening: list[float] = []

    def timed() -> None:
        opening.append(seconds(lambda: prepare(document, None, always)))

    benchmark.pedantic(timed, rounds=ROUNDS)  # type: ignore[no-untyped-call]
    benchmark.extra_info["ratio to json.loads"] = round(min(opening) / loads, 2)
    print(f"opening 20 MB takes {min(opening) / loads:.2f} of json.loads")


def test_searching(benchmark: BenchmarkFixture, document: bytes) -> None:
    text = prepare(document, None, always)
    loads = min(seconds(lambda: json.loads(document)) for _ in range(ROUNDS))
    searching: list[float] = []
    needle = Needle("no such text")

    def timed() -> None:
        searching.append(seconds(lambda: find_all(text.data, needle, always)))

    benchmark.pedantic(timed, rounds=ROUNDS)  # type: ignore[no-untyped-call]
    benchmark.extra_info["ratio to json.loads"] = round(min(searching) / loads, 3)
    print(f"searching 20 MB takes {min(searching) / loads:.3f} of json.loads")

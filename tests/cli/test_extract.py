"""extract and digest: files onto the disk, and what proves that two packed files hold the same."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest

from ocitui.cli.demo_cache import BUSYBOX
from tests.cli.conftest import Ocitui
from tests.cli.test_diff import store
from tests.cli.test_files import NAME, ODD, PACKED, packed
from tests.importing.layer_support import Item, layer


@pytest.fixture
def odd(demo: Path) -> Path:
    packed(demo, ODD)
    return demo


def answer(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    monkeypatch.setattr("ocitui.cli.output.can_ask", lambda: True)
    monkeypatch.setattr("ocitui.cli.output.ask", lambda question: word)


def test_paths_land_below_the_directory(odd: Path, tmp_path: Path, ocitui: Ocitui) -> None:
    place = tmp_path / "new" / "out"
    done = ocitui("extract", NAME, "/usr/bin/sh", "etc", "-o", place, "-C", odd)
    assert (done.status, done.err) == (0, "")
    assert done.out == f"3 entries, 33B, below {place}\nleft out: 1 setuid and setgid bits\n"
    assert (place / "etc" / "passwd").read_bytes() == b"root:\x1b[31m\tx\n"
    assert sorted(path.name for path in (place / "usr" / "bin").iterdir()) == ["sh"]
    told = ocitui("extract", NAME, "up", "-o", tmp_path / "more", "-C", odd, "--json").json
    assert (told["entries"], told["bytes"], told["left_out"], told["format"]) == (1, 0, {}, "tar")
    assert (tmp_path / "more" / "up").is_symlink()


def test_what_is_there_is_replaced_after_a_question(
    odd: Path, tmp_path: Path, ocitui: Ocitui, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["extract", NAME, "etc", "-o", str(tmp_path / "out"), "-C", str(odd)]
    place = tmp_path / "out" / "etc" / "passwd"
    place.parent.mkdir(parents=True)
    place.write_text("mine")
    refused = ocitui(*words)
    assert (refused.status, place.read_text()) == (2, "mine")
    assert "there already: etc/passwd" in refused.out + refused.err
    answer(monkeypatch, "no")
    assert ocitui(*words).status == 130
    assert place.read_text() == "mine"
    answer(monkeypatch, "yes")
    assert ocitui(*words).status == 0
    assert place.read_bytes().startswith(b"root:")
    place.write_text("mine")
    assert ocitui(*words, "--yes").status == 0
    assert place.read_bytes().startswith(b"root:")


def test_nothing_is_written_into_the_cache_or_through_a_link(odd: Path, tmp_path: Path, ocitui: Ocitui) -> None:
    before = sorted(odd.iterdir())
    refused = ocitui("extract", NAME, "etc", "-o", odd / "out", "-C", odd)
    assert (refused.status, "is in the cache" in refused.err) == (4, True)
    assert sorted(odd.iterdir()) == before
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "etc").symlink_to(tmp_path)
    refused = ocitui("extract", NAME, "etc", "-o", tmp_path / "out", "-C", odd, "--yes")
    assert (refused.status, "is in the way" in refused.err) == (4, True)
    assert "name another directory" in refused.err
    assert ocitui("extract", NAME, "etc", "-o", tmp_path / "another", "-C", odd).status == 0


@pytest.mark.parametrize(("path", "status"), [("/", 4), ("etc", 4), ("etc/passwd", 0)])
def test_a_directory_that_may_hold_more_than_can_be_read(
    path: str, status: int, odd: Path, tmp_path: Path, ocitui: Ocitui
) -> None:
    """What is left out of a damaged image is told, and not by what is there alone."""
    packed(odd, ODD[: ODD.index(b"binary\0")])
    done = ocitui("extract", NAME, path, "-o", tmp_path / "out", "-C", odd)
    assert done.status == status
    assert ("what stands behind byte" in done.err) == (status == 4)
    assert (tmp_path / "out" / "etc" / "passwd").exists()
    told = ocitui("extract", NAME, path, "-o", tmp_path / "out", "-C", odd, "--yes", "--json")
    assert (told.status, "damage" in told.json) == (status, status == 4)


@pytest.mark.parametrize(("path", "status"), [("nowhere", 1), ("etc/passwd/below", 1)])
def test_no_such_path(path: str, status: int, odd: Path, tmp_path: Path, ocitui: Ocitui) -> None:
    assert ocitui("extract", NAME, path, "-o", tmp_path / "out", "-C", odd).status == status
    assert not (tmp_path / "out").exists()


def test_the_digest_is_that_of_its_text(odd: Path, ocitui: Ocitui) -> None:
    import hashlib

    for level in ("content", "xattrs", "full"):
        text = ocitui("digest", NAME, "--level", level, "--lines", "-C", odd).out
        assert text.startswith(f"packed-tree 1 {level}\n/ d")
        told = ocitui("digest", NAME, "--level", level, "-C", odd)
        assert told.out == f"{level} sha256:{hashlib.sha256(text.encode()).hexdigest()}\n"
    found = ocitui("digest", NAME, "-C", odd, "--json").json
    assert (found["level"], found["format"]) == ("content", "tar")


def test_the_digest_is_told_from_what_is_stored_while_that_is_right(
    odd: Path, ocitui: Ocitui, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [("--level", level, *more) for level in ("content", "xattrs", "full") for more in ((), ("--lines",))]
    expected = [ocitui("digest", NAME, *words, "-C", odd).out for words in asked]
    path = odd / f"{BUSYBOX.digest}.tar"
    store(path)
    with monkeypatch.context() as patched:
        patched.delattr("ocitui.contents.tree.import_module")
        assert [ocitui("digest", NAME, *words, "-C", odd).out for words in asked] == expected
        assert ocitui("digest", NAME, "--json", "-C", odd).json["from"] == "stored"
    assert ocitui("digest", NAME, "--images", "--json", "-C", odd).json["from"] == "image"
    path.write_bytes(layer(Item("other")))
    told = ocitui("digest", NAME, "--json", "-C", odd).json
    assert (told["from"], f"content {told['tree']}\n" == expected[0]) == ("image", False)


@pytest.mark.parametrize("level", ["content", "xattrs", "full"])
def test_one_tree_has_one_digest_in_every_format(level: str, demo: Path, ocitui: Ocitui) -> None:
    digests = {}
    for name in ("zoo.tar", "zoo.1.8.10.tar.erofs", "zoo.1.9.3.tar.erofs"):
        path = packed(demo, lzma.decompress((PACKED / f"{name}.xz").read_bytes()))
        path = path.rename(path.with_suffix(f".{name.rpartition('.')[2]}"))
        done = ocitui("digest", f"{path.name}", "--level", level, "-C", demo)
        assert done.status == 0, done.err
        digests[name] = done.out
        path.unlink()
    assert len(set(digests.values())) == 1, digests


def test_what_is_cut_has_none(demo: Path, ocitui: Ocitui) -> None:
    packed(demo, ODD[:2000])
    refused = ocitui("digest", NAME, "-C", demo)
    assert (refused.status, "has no digest" in refused.err) == (4, True)

"""Delete and undo: one transaction, one index write, every byte kept."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ocitui.cache import (
    ConflictError,
    ImageName,
    NoSuchEntryError,
    NoSuchTransactionError,
    PackerCache,
    PlanChangedError,
    TransactionKind,
    TransactionState,
)
from ocitui.cache.disk import Disk, Folder
from ocitui.cache.journal import Journal
from tests.cache.scenes import key
from tests.cache.support import (
    EROFS,
    SQUASHFS,
    TAR,
    digests_and_formats,
    entry,
    index_bytes,
    make_image,
    stored,
    trash,
    tree,
    write_cache,
)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    folder = tmp_path / "cache"
    write_cache(folder, range(3), (SQUASHFS, EROFS))
    return folder


def names_of(number: int, *formats: str) -> set[str]:
    digest = key(number)[0]
    return {f"{digest}.{format_}" for format_ in formats} | {f"{digest}.manifest.json", f"{digest}.config.json"}


async def test_documents_stay_while_another_entry_needs_them(directory: Path) -> None:
    cache = PackerCache(directory)
    await cache.delete([key(0)])
    assert names_of(0, "erofs") <= set(tree(directory))
    assert trash(directory) == [b"packed 0 squashfs"]
    await cache.delete([key(0, "erofs")])
    assert not names_of(0) & set(tree(directory))


async def test_documents_stay_while_an_orphan_needs_them(directory: Path) -> None:
    (directory / f"{key(0)[0]}.tar").write_bytes(b"an orphan")
    await PackerCache(directory).delete([key(0), key(0, "erofs")])
    assert names_of(0, "tar") <= set(tree(directory))


@pytest.mark.parametrize("restart", [False, True])
async def test_a_delete_of_many_is_one_transaction(directory: Path, restart: bool) -> None:
    before, cache = tree(directory), PackerCache(directory)
    keys = [key(0), key(0, "erofs"), key(2)]
    transaction = await cache.delete(keys)
    assert digests_and_formats(directory) == [key(1), key(1, "erofs"), key(2, "erofs")]
    assert (transaction.kind, transaction.state) == (TransactionKind.DELETE, TransactionState.DONE)
    assert transaction.bytes_trashed == sum(map(len, trash(directory)))
    cache = PackerCache(directory) if restart else cache
    undo = await cache.undo(transaction.id)
    assert tree(directory) == before
    assert undo.of == transaction.id
    assert transaction.bytes_in_trash == transaction.bytes_trashed
    assert [one.state for one in await cache.transactions()] == [TransactionState.DONE, TransactionState.UNDONE]
    assert [one.bytes_in_trash for one in await cache.transactions()] == [0, 0], "all of it is back"
    with pytest.raises(ConflictError):
        await cache.undo(transaction.id)


async def test_what_is_undone_last_in_first_out(directory: Path, tmp_path: Path) -> None:
    before, cache = tree(directory), PackerCache(directory)
    await cache.delete([key(0)])
    await stored(cache, tmp_path / "source", name="new:1")
    await stored(cache, tmp_path / "source", name="newer:2", content=b"newer")
    await stored(cache, tmp_path / "source", name="newer:2", format=TAR)
    await cache.delete([key(1)])
    for _ in range(5):
        await cache.undo()
    assert tree(directory) == before
    with pytest.raises(NoSuchTransactionError):
        await cache.undo()


async def test_an_undo_can_be_undone(directory: Path) -> None:
    before, cache = tree(directory), PackerCache(directory)
    await cache.delete([key(0), key(1, "erofs")])
    deleted = tree(directory)
    undo = await cache.undo()
    redo = await cache.undo(undo.id)
    assert tree(directory) == deleted
    await cache.undo(redo.id)
    assert tree(directory) == before


async def test_what_is_not_there(directory: Path) -> None:
    cache, before = PackerCache(directory), tree(directory)
    for keys in ([key(9)], [key(0), key(9)], [(key(0)[0], "tar")], [(key(0)[0], None)], []):
        with pytest.raises(NoSuchEntryError):
            await cache.delete(keys)
    for transaction in ("nothing", "../lock", "", "a.b", "nul\0", "x" * 500):
        with pytest.raises(NoSuchTransactionError):
            await cache.undo(transaction)
    assert tree(directory) == before


async def test_an_entry_no_lookup_reaches_is_deleted(tmp_path: Path) -> None:
    outside = tmp_path / "secret.squashfs"
    outside.write_bytes(b"not of the cache")
    folder = tmp_path / "cache"
    write_cache(folder, [0])
    odd = [
        {**entry(1), "digest": "../secret"},
        {**entry(2), "digest": "nul\0byte"},
        {**entry(3), "digest": "x" * 300},
        entry(4, format="zip"),
        {**entry(5), "annotations": {}},
    ]
    (folder / "index.json").write_bytes(index_bytes([entry(0), *odd]))
    before, cache = tree(folder), PackerCache(folder)
    keys = [descriptor.key for descriptor in await cache.list()][1:]
    plan = await cache.plan_delete(keys)
    assert len(plan.files) == 0
    transaction = await cache.delete(keys, plan)
    assert digests_and_formats(folder) == [key(0)]
    assert outside.read_bytes() == b"not of the cache"
    await PackerCache(folder).undo(transaction.id)
    assert tree(folder) == before


async def test_a_plan_says_what_will_happen(directory: Path) -> None:
    cache = PackerCache(directory)
    plan = await cache.plan_delete([key(0), key(1), key(1, "erofs")])
    assert {file.name for file in plan.files} == {f"{key(0)[0]}.squashfs", *names_of(1, "squashfs", "erofs")}
    assert set(plan.kept) == names_of(0)
    # The other format of the same image has the name as well.
    assert plan.uncovered == ()
    before = set(tree(directory))
    transaction = await cache.delete([key(0), key(1), key(1, "erofs")], plan)
    assert before - set(tree(directory)) == {file.name for file in plan.files}
    assert transaction.bytes_trashed == plan.bytes_trashed


async def test_a_plan_of_many_entries_lists_the_directory_once(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, cache = [key(0), key(1), key(1, "erofs"), key(2)], PackerCache(directory)
    (directory / f"{key(2)[0]}.squashfs").unlink()
    # An entry that stays has lost its packed file, and not its documents: they are needed all the same.
    (directory / f"{key(0)[0]}.erofs").unlink(missing_ok=True)
    index = directory / "index.json"
    described = [*json.loads(index.read_bytes())["manifests"], entry(0, format="tar")]
    index.write_bytes(index_bytes([one for one in described if one != entry(0, format="erofs")]))
    (directory / f"{key(0)[0]}.config.json").unlink()
    few = await cache.plan_delete(keys)
    assert [name for name in few.kept if name.startswith(key(0)[0])] == [f"{key(0)[0]}.manifest.json"]
    monkeypatch.setattr("ocitui.cache.changes._MANY", 0)
    listed, names = list[Path](), Folder.names

    def list_names(folder: Folder) -> list[str]:
        listed.append(folder.path)
        return names(folder)

    monkeypatch.setattr(Folder, "names", list_names)
    assert await cache.plan_delete(keys) == few
    assert len(listed) == 1


async def test_a_journal_of_many_records_is_listed_for_a_change_and_not_for_each_of_its_steps(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed, names = list[str](), Folder.names

    def list_names(folder: Folder) -> list[str]:
        listed.append(folder.path.name)
        return names(folder)

    cache = PackerCache(directory)
    await cache.delete([key(0)])
    monkeypatch.setattr(Folder, "names", list_names)
    await stored(cache, tmp_path / "source", "new", name="new:1")
    # Once more to tell what came since the backup that is made.
    assert listed.count("journal") == 2
    listed.clear()
    await cache.undo()
    assert listed.count("journal") == 1
    assert [one.state for one in await cache.transactions()] == ["done", "undone", "done"]


async def test_what_a_journal_notes_of_its_changes_is_what_a_listing_tells(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = list[int]()

    def checked(act: Callable[..., object]) -> Callable[..., None]:
        def then_compare(journal: Journal, *arguments: object) -> None:
            act(journal, *arguments)
            seen.append(len(journal.names()))
            assert journal.names() == Journal(Disk(), journal.folder).names()

        return then_compare

    for name in ("write", "_rename"):
        monkeypatch.setattr(Journal, name, checked(getattr(Journal, name)))
    cache = PackerCache(directory)
    await stored(cache, tmp_path / "source", "new", name="new:1")
    first = await cache.delete([key(0)])
    await cache.delete([key(1)])
    await cache.undo(first.id)
    await cache.undo()
    await cache.undo()
    assert max(seen) == 6


async def test_a_plan_says_which_name_goes_back(directory: Path, tmp_path: Path) -> None:
    cache = PackerCache(directory)
    old = await stored(cache, tmp_path / "source", "old", name="moving:tag")
    new = await stored(cache, tmp_path / "source", "new", name="moving:tag")
    plan = await cache.plan_delete([(new.digest, "squashfs")])
    assert [one.digest for one in plan.uncovered] == [old.digest]
    assert (await cache.plan_delete([(old.digest, "squashfs")])).uncovered == ()


@pytest.mark.parametrize("how", ["file changed", "file gone", "other entry gone", "entry again", "entry noted"])
async def test_a_plan_that_no_longer_holds(how: str, directory: Path, tmp_path: Path) -> None:
    cache = PackerCache(directory)
    plan = await cache.plan_delete([key(0)])
    packed = directory / f"{key(0)[0]}.squashfs"
    match how:
        case "file changed":
            packed.write_bytes(b"something else")
        case "file gone":
            packed.unlink()
        case "other entry gone":
            await PackerCache(directory).delete([key(0, "erofs")])
        case "entry noted":
            index = json.loads((directory / "index.json").read_bytes())
            index["manifests"][0]["annotations"]["note"] = "by another program"
            (directory / "index.json").write_text(json.dumps(index))
        case _:
            await stored(PackerCache(directory), tmp_path / "source", "0", name="renamed:1")
    before = tree(directory)
    with pytest.raises(PlanChangedError):
        await cache.delete([key(0)], plan)
    assert tree(directory) == before


def daemon_pulls_again(directory: Path) -> None:
    write_cache(directory, range(3), (SQUASHFS, EROFS))


def daemon_forgets(directory: Path) -> None:
    """Its memory is older than what was done here."""
    (directory / "index.json").write_bytes(index_bytes([entry(1)]))


def something_stands_there(directory: Path) -> None:
    (directory / f"{key(0)[0]}.squashfs").mkdir()


def trash_was_emptied(directory: Path) -> None:
    for path in (directory / ".ocitui" / "trash").iterdir():
        path.unlink()


@pytest.mark.parametrize("meanwhile", [daemon_pulls_again, something_stands_there, trash_was_emptied])
async def test_an_undo_never_overwrites(meanwhile: Callable[[Path], None], directory: Path) -> None:
    cache = PackerCache(directory)
    transaction = await cache.delete([key(0)])
    meanwhile(directory)
    before, kept = tree(directory), trash(directory)
    with pytest.raises(ConflictError) as caught:
        await cache.undo(transaction.id)
    assert caught.value.hint
    assert (tree(directory), trash(directory)) == (before, kept)
    assert transaction.id in [one.id for one in await cache.transactions() if one.state is TransactionState.DONE]


async def test_an_undo_after_the_daemon_wrote_its_memory(directory: Path) -> None:
    cache = PackerCache(directory)
    await cache.delete([key(0), key(0, "erofs")])
    daemon_forgets(directory)
    await cache.undo()
    assert set(digests_and_formats(directory)) == {key(0), key(0, "erofs"), key(1)}
    assert await cache.recall(ImageName.parse("a"), key(0)[0], SQUASHFS) is not None


async def test_an_undo_of_a_store_that_was_replaced_since(directory: Path, tmp_path: Path) -> None:
    cache = PackerCache(directory)
    await stored(cache, tmp_path / "source", name="first:1", content=b"first")
    first = (await cache.transactions())[0]
    image = await stored(cache, tmp_path / "source", name="second:1", content=b"other")
    before = tree(directory)
    with pytest.raises(ConflictError):
        await cache.undo(first.id)
    assert tree(directory) == before
    await cache.store(make_image(image.path, name="third:1"))
    with pytest.raises(ConflictError):
        await cache.undo((await cache.transactions())[1].id)


async def test_an_undo_of_a_store_that_was_deleted_since(directory: Path, tmp_path: Path) -> None:
    cache = PackerCache(directory)
    image = await stored(cache, tmp_path / "source")
    store = (await cache.transactions())[0]
    await cache.delete([(image.digest, "squashfs")])
    before = tree(directory)
    with pytest.raises(ConflictError):
        await cache.undo(store.id)
    assert tree(directory) == before


async def test_a_document_that_came_back_by_itself(directory: Path, tmp_path: Path) -> None:
    cache = PackerCache(directory)
    await cache.delete([key(0), key(0, "erofs")])
    await stored(cache, tmp_path / "source", "0", format=TAR)
    await cache.undo((await cache.transactions())[1].id)
    assert {key(0), key(0, "erofs"), (key(0)[0], "tar")} <= set(digests_and_formats(directory))
    assert names_of(0, "squashfs", "erofs", "tar") <= set(tree(directory))
    assert os.listdir(directory / ".ocitui" / "staging") == []

"""Flattening in a process of its own: progress, errors, and ends of every kind."""

import asyncio
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ocitui.cache import CacheError, PackedFormat, StorageError
from ocitui.importing.errors import (
    LayerDigestError,
    LayerError,
    LayerLimitError,
    MissingToolError,
    PackerError,
    SourceError,
    WorkerError,
)
from ocitui.importing.layers.layers import LayerLimits, Layers, LayerSource
from ocitui.importing.packing.packing import (
    Failure,
    FlattenRequest,
    PackOptions,
    WorkerAnswer,
    decode_answer,
    decode_layer,
    decode_request,
    encode,
    flatten_and_pack,
    how_ended,
)
from ocitui.importing.progress import ImportPhase, ImportProgress
from ocitui.text import printable
from ocitui.threads import settled
from tests.importing.layer_support import Item, flattened, folder, layer, pack_layers, sources
from tests.importing.pipeline import parent_of, pid_from
from tests.tools import need

pytestmark = pytest.mark.slow

MKSQUASHFS = PackOptions(packer="mksquashfs")
PROGRESS = ImportProgress(ImportPhase.WRITE, 3, 4, 5, 6, layer=1, layers_total=2)


@pytest.fixture
def image(tmp_path: Path) -> list[LayerSource]:
    lower = layer(folder("d"), *(Item(f"d/{number}", data=os.urandom(3000)) for number in range(300)))
    return sources(tmp_path / "layers", [lower, layer(Item("big", data=os.urandom(6 << 20)))])


@pytest.fixture
def place(tmp_path: Path) -> Path:
    directory = tmp_path / "place"
    directory.mkdir()
    return directory


def has_ended(pidfd: int) -> bool:
    """Whether a process ends within half a minute; its descriptor is closed."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    try:
        return bool(poll.poll(30_000))
    finally:
        os.close(pidfd)


async def test_a_layer_is_read_while_the_next_is_still_to_come(image: list[LayerSource], place: Path) -> None:
    (damaged,) = sources(place, [b"no tar" * 1000])
    ended = asyncio.Event()

    async def coming() -> Layers:
        yield image[0]
        yield damaged
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(LayerError, match="layer 2"):
        await flatten_and_pack(coming(), [1, 2, 3], place / "out", PackedFormat.TAR)
    assert ended.is_set()
    assert not (place / "out").exists()


async def test_a_layer_that_does_not_come_ends_what_reads(image: list[LayerSource], place: Path) -> None:
    async def coming() -> Layers:
        yield image[0]
        raise SourceError("the line is cut")

    with pytest.raises(SourceError, match="the line is cut"):
        await flatten_and_pack(coming(), [1, 2], place / "out", PackedFormat.TAR)
    assert list(place.iterdir()) == []


async def test_cancelling_twice_while_what_comes_still_settles_leaves_no_process(place: Path) -> None:
    begun, settling, release = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def coming() -> Layers:
        try:
            begun.set()
            await asyncio.Event().wait()
            yield LayerSource(place, "", 0, "")
        finally:
            settling.set()
            await settled(release.wait())

    def children() -> str:
        return Path(f"/proc/self/task/{os.getpid()}/children").read_text()

    before = children()
    task = asyncio.create_task(flatten_and_pack(coming(), [1], place / "out", PackedFormat.TAR))
    await begun.wait()
    assert children() != before
    task.cancel()
    await settling.wait()
    task.cancel()
    # Two turns, in which the second is told to whoever waits.
    for _ in range(2):
        await asyncio.sleep(0)
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert children() == before


async def test_a_connection_that_breaks_where_layers_come_from_is_raised(place: Path) -> None:
    async def coming() -> Layers:
        if place.exists():
            raise ConnectionResetError
        yield LayerSource(place, "", 0, "")

    with pytest.raises(ConnectionResetError):
        async with asyncio.timeout(20):
            await flatten_and_pack(coming(), [1], place / "out", PackedFormat.TAR)


async def test_a_tar_and_honest_progress(image: list[LayerSource], place: Path) -> None:
    heard: list[ImportProgress] = []
    assert await pack_layers(image, place / "out", PackedFormat.TAR, progress=heard.append) == ()
    packed = (place / "out").read_bytes()
    assert packed == flattened(image)
    assert list(dict.fromkeys(progress.phase for progress in heard)) == [
        ImportPhase.READ,
        ImportPhase.WRITE,
        ImportPhase.FINISH,
    ]
    for phase, total in (
        (ImportPhase.READ, sum(source.path.stat().st_size for source in image)),
        (ImportPhase.WRITE, len(packed)),
    ):
        steps = [progress for progress in heard if progress.phase is phase]
        assert [step.done for step in steps] == sorted(step.done for step in steps)
        assert steps[-1].done == total
        assert {step.layers_total for step in steps} == {2}
    assert heard[-1].files == heard[-1].files_total == 301
    assert [path.name for path in place.iterdir()] == ["out"]


async def test_a_squashfs(image: list[LayerSource], place: Path) -> None:
    await pack_layers(image, place / "out", PackedFormat.SQUASHFS)
    assert (place / "out").read_bytes()[:4] == b"hsqs"


async def test_several_at_once(image: list[LayerSource], place: Path) -> None:
    paths = [place / f"out{number}" for number in range(3)]
    await asyncio.gather(*(pack_layers(image, path, PackedFormat.TAR) for path in paths))
    assert len({path.read_bytes() for path in paths}) == 1


async def test_errors_come_back_as_they_were_raised(image: list[LayerSource], place: Path) -> None:
    options = PackOptions(limits=LayerLimits(entries=20))
    with pytest.raises(LayerLimitError, match="more than 20 entries") as caught:
        await pack_layers(image, place / "out", PackedFormat.TAR, options)
    assert caught.value.message.startswith("layer 1")
    assert "--max-entries" in caught.value.hint
    image = sources(image[0].path.parent, [b"", layer(folder("../caf\udce9"), Item("x\udce9", uid=1 << 40))])
    with pytest.raises(LayerError, match="owner") as refused:
        await pack_layers(image, place / "out", PackedFormat.TAR)
    assert refused.value.message.startswith("layer 2, " + printable(b"x\xe9"))
    assert list(place.iterdir()) == []


async def test_what_is_there_already_stays(image: list[LayerSource], place: Path) -> None:
    (place / "out").write_bytes(b"mine")
    with pytest.raises(PackerError, match="is there already"):
        await pack_layers(image, place / "out", PackedFormat.TAR)
    assert (place / "out").read_bytes() == b"mine"


async def test_a_directory_that_is_not_there(image: list[LayerSource], place: Path) -> None:
    with pytest.raises(StorageError):
        await pack_layers(image, place / "absent" / "out", PackedFormat.TAR)


async def test_cancelling_leaves_no_process_and_no_file(
    image: list[LayerSource], place: Path, slow_packer: Path
) -> None:
    task = asyncio.create_task(pack_layers(image, place / "out", PackedFormat.SQUASHFS, MKSQUASHFS))
    packer = os.pidfd_open(await pid_from(slow_packer))
    assert (place / "out").exists()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert has_ended(packer)
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("moment", range(5))
async def test_cancelling_at_any_moment(moment: int, image: list[LayerSource], place: Path) -> None:
    """Before it begins, and at each of the four times at least that it says how far it is."""
    need("mkfs.erofs")
    heard: list[ImportProgress] = []

    def hear(progress: ImportProgress) -> None:
        heard.append(progress)
        if len(heard) == moment:
            task.cancel()

    task = asyncio.create_task(pack_layers(image, place / "out", PackedFormat.EROFS, progress=hear))
    if not moment:
        await asyncio.sleep(0)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert list(place.iterdir()) == []


async def test_a_killed_worker_is_said_and_takes_its_packer_along(
    image: list[LayerSource], place: Path, slow_packer: Path
) -> None:
    task = asyncio.create_task(pack_layers(image, place / "out", PackedFormat.SQUASHFS, MKSQUASHFS))
    pid = await pid_from(slow_packer)
    packer = os.pidfd_open(pid)
    os.kill(parent_of(pid), signal.SIGKILL)
    with pytest.raises(WorkerError, match="ended with signal SIGKILL"):
        await task
    assert has_ended(packer)
    assert list(place.iterdir()) == []


async def test_a_killed_packer_is_said(image: list[LayerSource], place: Path, slow_packer: Path) -> None:
    task = asyncio.create_task(pack_layers(image, place / "out", PackedFormat.SQUASHFS, MKSQUASHFS))
    os.kill(await pid_from(slow_packer), signal.SIGKILL)
    with pytest.raises(PackerError, match="mksquashfs failed with signal SIGKILL"):
        await task
    assert list(place.iterdir()) == []


def test_nothing_outlives_a_parent_that_dies(image: list[LayerSource], place: Path, slow_packer: Path) -> None:
    script = (
        "import asyncio, sys; from pathlib import Path\n"
        "from ocitui.cache import PackedFormat\n"
        "from tests.importing.layer_support import layer_source\n"
        "from tests.importing.layer_support import pack_layers\n"
        "layers = [layer_source(Path(name)) for name in sys.argv[2:]]\n"
        "from ocitui.importing.packing.packing import PackOptions\n"
        "options = PackOptions(packer='mksquashfs')\n"
        "asyncio.run(pack_layers(layers, Path(sys.argv[1]), PackedFormat.SQUASHFS, options))\n"
    )
    paths = [str(source.path) for source in image]
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", script, str(place / "out"), *paths], cwd=root) as parent:
        packer = int(slow_packer.read_text())
        left = [os.pidfd_open(packer), os.pidfd_open(parent_of(packer))]
        parent.kill()
    assert all(map(has_ended, left))


async def test_a_worker_that_cannot_start_says_why(
    image: list[LayerSource], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [path for path in sys.path if "site-packages" not in path and "lib" in path])
    with pytest.raises(WorkerError, match="No module named"):
        await pack_layers(image, place / "out", PackedFormat.TAR)


async def test_a_worker_that_cannot_be_started_at_all_is_said(
    image: list[LayerSource], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(place / "python"))
    with pytest.raises(WorkerError, match="cannot start the process that flattens: No such file or directory"):
        await pack_layers(image, place / "out", PackedFormat.TAR)


async def test_a_file_that_cannot_be_removed_does_not_hide_what_failed(
    image: list[LayerSource], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ocitui.importing.packing.packing._START", f"import os; os.mkdir({str(place / 'out')!r})")
    with pytest.raises(WorkerError, match="the process that flattens ended with status 0"):
        await pack_layers(image, place / "out", PackedFormat.TAR)


async def test_a_worker_that_ends_amid_a_line_is_said(
    image: list[LayerSource], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "import os; os.write(1, b'{\"progress\": {'); os.write(2, b'why'); os.kill(os.getpid(), 15)"
    monkeypatch.setattr("ocitui.importing.packing.packing._START", script)
    with pytest.raises(WorkerError, match="the process that flattens ended with signal SIGTERM: why"):
        await pack_layers(image, place / "out", PackedFormat.TAR)


@pytest.mark.parametrize("said", ["'{'", "{'progress': 1}", "'x' * (1 << 25)"], ids=["torn", "odd", "long"])
async def test_an_answer_that_cannot_be_read_is_said(
    said: str, image: list[LayerSource], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ocitui.importing.packing.packing._START", f"print({said})")
    with pytest.raises(WorkerError, match="the process that flattens said what cannot be read: "):
        await pack_layers(image, place / "out", PackedFormat.TAR)


def test_a_worker_ends_at_once_where_its_parent_is_another() -> None:
    script = "import sys; from ocitui.importing.packing.packers import main; sys.exit(main(1))"
    done = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[2], check=False, input=b"")
    assert done.returncode == 1


def test_the_worker_loads_neither_the_screen_nor_an_event_loop() -> None:
    """The loop would make it 7 MB larger."""
    script = """
import sys
from ocitui.importing.packing import packers, proof, squashfs
print([name for name in sys.modules if name in ("textual", "rich", "asyncio", "ssl", "httpx2", "watchfiles")])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=Path(__file__).parents[2], check=True, capture_output=True, text=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("code", "said"), [(0, "status 0"), (3, "status 3"), (-9, "signal SIGKILL"), (-40, "signal 40")]
)
def test_every_end_has_words(code: int, said: str) -> None:
    assert how_ended(code) == said


def test_requests_come_through_whole() -> None:
    digest = "sha256:" + "0" * 64
    request = FlattenRequest(
        (5, 0),
        Path("/o\udcff"),
        PackedFormat.EROFS,
        PackOptions(level=9, limits=LayerLimits(depth=3)),
    )
    assert decode_request(encode(request)) == request
    for one in (LayerSource(Path("/caf\udce9"), digest, 5, digest, 7), LayerSource(Path("x"), digest, 0, digest)):
        assert decode_layer(encode(one)) == one


@pytest.mark.parametrize("answer", [WorkerAnswer(PROGRESS), WorkerAnswer(warnings=("a", "/\udcff"))])
def test_answers_come_through_whole(answer: WorkerAnswer) -> None:
    assert decode_answer(encode(answer)) == answer


@pytest.mark.parametrize(
    "error",
    [
        LayerError("why", layer=3, entry=b"\xff\n"),
        LayerDigestError("why", layer=3),
        LayerLimitError("why", hint="raise it"),
        PackerError("why"),
        MissingToolError("why", hint="apt"),
        StorageError("why"),
    ],
)
def test_errors_come_through_whole(error: CacheError) -> None:
    failure = decode_answer(encode(WorkerAnswer(failure=Failure.of(error)))).failure
    assert failure is not None
    back = failure.error()
    assert type(back) is type(error)
    assert (back.message, back.hint) == (error.message, error.hint)

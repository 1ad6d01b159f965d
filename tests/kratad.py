"""krata's daemon, as a process of its own: what it does with index.json at its start and at a store, how it holds its
database and listens at its socket; and a `kratactl` that asks it.

It does what `crates/daemon/src/lib.rs` and `crates/oci/src/packer/cache.rs` of krata 0.0.21 do, in that order. Its
zones, which the real one reads from krata.db, stand in `zones.jsonl` beside that; it does not pull, but is told to
store. Run as a program it is one daemon: `python -m tests.kratad STORE STEP` goes as far as that step of its start.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from ocitui.cache import judge_index

NAME, SOCKET, DATABASE, ZONES = "kratad", "daemon.socket", "krata.db", "zones.jsonl"
STEPS = ("index", "database", "socket")
"""Of its start, in their order: it has the index, it has krata.db and the lock on it, it listens."""
_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
_FORMAT, _IMAGE_NAME = "dev.krata.oci.packer.format", "io.containerd.image.name"
_REFERENCE = "org.opencontainers.image.ref.name"
_INDEX_FIELDS = ("schemaVersion", "mediaType", "manifests", "annotations")
_DESCRIPTOR_FIELDS = ("mediaType", "digest", "size", "urls", "annotations", "platform", "artifactType", "data")
_PLATFORM_FIELDS = ("architecture", "os", "os_version", "os_features", "variant", "features")
Record = dict[str, Any]
Key = tuple[str, str | None]


def index_bytes(manifests: Iterable[Mapping[str, Any]], **more: Any) -> bytes:
    """An index as the daemon writes it, but that its annotations have an order."""
    fields = {"schemaVersion": 2, "mediaType": _INDEX_TYPE, **more, "manifests": [*manifests]}
    return json.dumps(fields, indent=2, ensure_ascii=False).encode() + b"\n"


def as_read_by_the_daemon(descriptor: Record) -> Record:
    """Without what it drops: unknown fields, and nulls."""
    kept = {key: descriptor[key] for key in _DESCRIPTOR_FIELDS if descriptor.get(key) is not None}
    if "platform" in kept:
        platform = kept["platform"]
        kept["platform"] = {key: platform[key] for key in _PLATFORM_FIELDS if platform.get(key) is not None}
    return kept


class Memory:
    """The index as the daemon has it: read once, at its start, and written whole at each store, with no lock."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.index = directory, directory / "index.json"
        self.fields: Record = {"manifests": []}

    def load(self) -> str:
        """Its start: gives what became of the index. Raises UnicodeDecodeError where the daemon does not start."""
        absent = not self.index.exists()
        if absent:
            self._save()
        data = self.index.read_bytes()
        text = data.decode()
        outcome = judge_index(data)
        if outcome != "loaded":
            self._save()
            return outcome.value
        fields = json.loads(text)
        fields["manifests"] = [as_read_by_the_daemon(one) for one in fields["manifests"]]
        self.fields = {key: fields[key] for key in _INDEX_FIELDS if fields.get(key) is not None}
        return "created" if absent else "loaded"

    def store(self, image: Record) -> None:
        """Bring in an image: ``name``, ``reference``, ``format`` and ``descriptor`` of it, the text of its ``manifest``
        and ``config``, and where its ``packed`` file is, which is moved."""
        digest, format_ = image["descriptor"]["digest"], image["format"]
        place = self.directory / f"{digest}.{format_}"
        try:
            os.rename(image["packed"], place)
        except OSError:
            shutil.copyfile(image["packed"], place)
            os.remove(image["packed"])
        (self.directory / f"{digest}.config.json").write_bytes(image["config"].encode())
        (self.directory / f"{digest}.manifest.json").write_bytes(image["manifest"].encode())
        told = {_FORMAT: format_, _IMAGE_NAME: image["name"]}
        if image["reference"] is not None:
            told[_REFERENCE] = image["reference"]
        descriptor = as_read_by_the_daemon(image["descriptor"])
        self.take({**descriptor, "annotations": {**descriptor.get("annotations", {}), **told}})

    def take(self, descriptor: Record) -> None:
        """What a store does to the index: an entry of the same digest and format gives way."""
        others = [one for one in self.fields["manifests"] if key_of(one) != key_of(descriptor)]
        self.fields["manifests"] = [*others, descriptor]
        self._save()

    @property
    def keys(self) -> list[Key]:
        return [key_of(one) for one in self.fields["manifests"]]

    def _save(self) -> None:
        """Truncated, then written."""
        with open(self.index, "wb") as file:
            file.write(index_bytes(**self.fields))


def key_of(descriptor: Record) -> Key:
    """Digest and format: what the daemon recalls an entry by."""
    return descriptor["digest"], descriptor.get("annotations", {}).get(_FORMAT)


def main(store: Path, until: str) -> int:
    """Start in the order of the real one, and do what is told on standard input until that ends."""
    memory = Memory(store / "cache" / "image")
    memory.directory.mkdir(parents=True, exist_ok=True)
    if not (store / "host.uuid").exists():
        (store / "host.uuid").write_text(f"{uuid4()}\n")
    try:
        _say(STEPS[0], memory.load(), memory.keys)
    except UnicodeDecodeError:
        _say(STEPS[0], "error", [])
        return 1
    if until == STEPS[0]:
        return _hang()
    with open(store / DATABASE, "ab") as database, socket.socket(socket.AF_UNIX) as listening:
        try:
            fcntl.flock(database, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say(STEPS[1], "already open", memory.keys)
            return 1
        _say(STEPS[1], "open", memory.keys)
        if until == STEPS[1]:
            return _hang()
        with suppress(FileNotFoundError):
            os.unlink(store / SOCKET)
        listening.bind(str(store / SOCKET))
        listening.listen()
        _say(STEPS[2], "listens", memory.keys)
        return _serve(memory, store, listening)


def _say(step: str, outcome: str, keys: list[Key]) -> None:
    print(json.dumps([step, outcome, keys]), flush=True)


def _hang() -> int:
    """Answer no more, neither at the socket nor here."""
    sys.stdin.read()
    return 0


def _serve(memory: Memory, store: Path, listening: socket.socket) -> int:
    while True:
        ready, _, _ = select.select([sys.stdin, listening], [], [])
        if listening in ready:
            _answer(store, listening)
        if sys.stdin not in ready:
            continue
        # Read by the line and never ahead, as one is sent only when the one before was answered.
        told = json.loads(sys.stdin.readline() or "null")
        if told is None:
            return 0
        if told == "hang":
            _say("told", "hangs", memory.keys)
            return _hang()
        memory.store(told)
        _say("told", "stored", memory.keys)


def _answer(store: Path, listening: socket.socket) -> None:
    """ControlService's ListZones, for the `kratactl` here: every zone that is stored, in the order of the database."""
    with listening.accept()[0] as asking, suppress(OSError), asking.makefile("rw") as stream:
        if stream.readline() == "ListZones\n" and (store / ZONES).exists():
            stream.write((store / ZONES).read_text())


class Kratad(AbstractContextManager["Kratad"]):
    """A daemon that a test has started, on a store of its own: it has come to the step ``until``, or has ended. It has
    its name only in ``proc``, a /proc of the test's own, so that no other test takes it for its cache's daemon."""

    def __init__(self, store: Path, proc: Path, until: str = STEPS[-1]) -> None:
        command = [sys.executable, "-m", "tests.kratad", str(store), until]
        here = Path(__file__).resolve().parent.parent
        self.process = subprocess.Popen(
            command, cwd=here, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        self.steps: dict[str, str] = {}
        self.keys: set[Key] = set()
        """What it has in its memory, by its own word."""
        while until not in self.steps and self._hear():
            pass
        self.folder = proc / str(self.pid)
        if not self.runs:
            self.process.wait()
            return
        self.folder.mkdir(parents=True)
        (self.folder / "comm").write_text(f"{NAME}\n")
        for name in ("fd", "stat", "status", "wchan"):
            (self.folder / name).symlink_to(f"/proc/{self.pid}/{name}")

    @property
    def runs(self) -> bool:
        """Whether it came as far as it was to come."""
        return self.steps.get(STEPS[0], "error") != "error" and self.steps.get(STEPS[1]) != "already open"

    @property
    def pid(self) -> int:
        return self.process.pid

    def store(self, image: Record) -> None:
        """Have it store an image, as `Memory.store` takes it."""
        self._tell(image)

    def hang(self) -> None:
        """It goes on holding lock and socket, and answers nobody."""
        self._tell("hang")

    def stop(self) -> None:
        """SIGSTOP: its process stands still."""
        self.process.send_signal(signal.SIGSTOP)
        os.waitpid(self.pid, os.WUNTRACED)

    def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        """It heeds no signal, so that its socket is left whichever ends it."""
        self.process.send_signal(number)
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __exit__(self, *_: object) -> None:
        self.end()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()

    def _tell(self, told: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(told) + "\n")
        self.process.stdin.flush()
        assert self._hear(), "the daemon ended"

    def _hear(self) -> bool:
        """Take in what it says next; False where it has ended."""
        assert self.process.stdout is not None
        if line := self.process.stdout.readline():
            step, self.steps[step], keys = json.loads(line)
            self.keys = {(digest, format_) for digest, format_ in keys}
        return bool(line)


_KRATACTL = f"""#!{sys.executable} -SE
import json, socket, sys
words = sys.argv[1:]
url = "unix:///var/lib/krata/{SOCKET}"
if words[:1] == ["-c"]:
    url, words = words[1], words[2:]
if words != ["zone", "list", "-f", "jsonl"] or not url.startswith("unix://"):
    sys.exit("error: not what is asked of it here")
with socket.socket(socket.AF_UNIX) as asking:
    asking.connect(url.removeprefix("unix://"))
    with asking.makefile("rw") as stream:
        stream.write("ListZones\\n")
        stream.flush()
        zones = [json.loads(line) for line in stream]
for zone in sorted(zones, key=lambda zone: zone.get("spec", {{}}).get("name", "")):
    print(json.dumps(zone, separators=(",", ":")))
"""


def make_kratactl(folder: Path) -> Path:
    """A `kratactl` for the folder, which is to be on PATH: it prints what the daemon at the socket answers, sorted by
    name, a zone a line; while that hangs it waits without an end."""
    path = folder / "kratactl"
    path.write_text(_KRATACTL)
    path.chmod(0o755)
    return path


def zone_lines(rows: Iterable[Record]) -> str:
    """Zones as protocol buffers are mapped to JSON: without what has its usual value."""

    def spec(row: Record) -> Record:
        given = {role: row[role] for role in ("image", "kernel", "initrd") if row[role]}
        return {
            **({"name": row["name"]} if row["name"] else {}),
            **{
                role: {"oci": {"digest": need["digest"], "format": f"OCI_IMAGE_FORMAT_{need['format'].upper()}"}}
                for role, need in given.items()
            },
        }

    return "".join(
        json.dumps({"id": row["uuid"], "spec": spec(row), "status": {"state": f"ZONE_STATE_{row['state'].upper()}"}})
        + "\n"
        for row in rows
    )


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))

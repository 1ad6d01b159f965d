"""How every command is told entries: by name, by a digest or its first digits, with a format, several, by a filter."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ocitui.cli.demo_cache import ALPINE, BUSYBOX, FORGOTTEN, OLD_ALPINE, SITE
from tests.cli.conftest import Ocitui

NAME = "alpine:3.19"
SHORT = BUSYBOX.digest[7:15]
BUSYBOX_NAME = "busybox:1.36"
Key = tuple[str, str]
TAR, EROFS = (BUSYBOX.digest, "tar"), (BUSYBOX.digest, "erofs")


@pytest.fixture
def demo(demo: Path) -> Path:
    """The demo cache, with busybox as an erofs besides, and an entry whose tag ends as a format does."""
    index = json.loads((demo / "index.json").read_text())
    (busybox,) = (one for one in index["manifests"] if one["digest"] == BUSYBOX.digest)
    for digest, changes in (
        (BUSYBOX.digest, {"dev.krata.oci.packer.format": "erofs"}),
        (SITE.digest, {"io.containerd.image.name": "busybox:1.36.squashfs", "org.opencontainers.image.ref.name": "1"}),
    ):
        index["manifests"].insert(0, {**busybox, "digest": digest, "annotations": busybox["annotations"] | changes})
    shutil.copy(demo / f"{BUSYBOX.digest}.tar", demo / f"{BUSYBOX.digest}.erofs")
    (demo / "index.json").write_text(json.dumps(index))
    return demo


def planned(document: dict[str, Any]) -> set[Key]:
    """What a plan takes out of the index."""
    return {(one["digest"], one["annotations"]["dev.krata.oci.packer.format"]) for one in document["plan"]["entries"]}


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        ([BUSYBOX_NAME], {TAR, EROFS}),
        ([f"library/{BUSYBOX_NAME}"], {TAR, EROFS}),
        ([f"{BUSYBOX_NAME}.erofs"], {EROFS}),
        ([BUSYBOX_NAME, "--format", "tar"], {TAR}),
        ([f"{BUSYBOX_NAME}.tar", "--format", "tar", "--format", "erofs"], {TAR}),
        (["busybox:1.36.squashfs"], {(SITE.digest, "tar")}),
        ([SHORT], {TAR, EROFS}),
        ([f"sha256:{SHORT}"], {TAR, EROFS}),
        ([f"{SHORT}.tar"], {TAR}),
        ([BUSYBOX.digest], {TAR, EROFS}),
        ([f"{BUSYBOX.digest}.erofs"], {EROFS}),
        ([NAME], {(ALPINE.digest, "tar")}),
        ([NAME, f"{SHORT}.tar", f"{BUSYBOX_NAME}.tar"], {(ALPINE.digest, "tar"), TAR}),
        (["--filter", "busybox format:erofs"], {EROFS}),
        (["--filter", f"digest:{SHORT}"], {TAR, EROFS}),
        (["--filter", f"digest:{SHORT}", "--format", "tar"], {TAR}),
    ],
)
def test_what_delete_takes_out(words: list[str], keys: set[Key], demo: Path, ocitui: Ocitui) -> None:
    done = ocitui("delete", *words, "--json", "-C", demo)
    assert done.status == 2
    assert done.json["error"]["code"] == "not-confirmed"
    assert planned(done.json) == keys


def test_several_go_in_one_transaction_and_come_back(demo: Path, ocitui: Ocitui) -> None:
    before = (demo / "index.json").read_bytes()
    assert ocitui("delete", NAME, SHORT, "--yes", "-C", demo).status == 0
    assert len(ocitui("log", "--json", "-C", demo).json["transactions"]) == 1
    assert ocitui("undo", "-C", demo).status == 0
    assert (demo / "index.json").read_bytes() == before


@pytest.mark.parametrize("words", [["delete"], ["show"], ["check", "--entry"]])
def test_what_a_name_overrules_is_told(words: list[str], demo: Path, ocitui: Ocitui) -> None:
    told = f"note: {NAME} is {ALPINE.digest[7:19]}, as for the daemon; {OLD_ALPINE.digest[7:19]} has it too\n"
    assert told in ocitui(*words, NAME, "-C", demo).err
    assert "has it too" not in ocitui(*words, ALPINE.digest, "-C", demo).err


@pytest.mark.parametrize(
    ("words", "digest"),
    [
        (["resolve", BUSYBOX_NAME], BUSYBOX.digest),
        (["resolve", f"{BUSYBOX_NAME}.tar"], BUSYBOX.digest),
        (["resolve", f"{SHORT}.erofs"], BUSYBOX.digest),
        (["resolve", f"{NAME}.tar"], ALPINE.digest),
        (["recall", BUSYBOX_NAME], BUSYBOX.digest),
        (["recall", f"{BUSYBOX_NAME}.tar"], BUSYBOX.digest),
        (["recall", f"{SHORT}.erofs"], BUSYBOX.digest),
        (["recall", f"{NAME}.tar"], ALPINE.digest),
        (["why", BUSYBOX_NAME], BUSYBOX.digest),
        (["why", f"{BUSYBOX_NAME}.tar"], BUSYBOX.digest),
        (["why", f"{SHORT}.erofs"], BUSYBOX.digest),
        (["why", f"{NAME}.tar"], ALPINE.digest),
        (["show", f"{BUSYBOX_NAME}.tar"], BUSYBOX.digest),
        (["show", f"{SHORT}.erofs"], BUSYBOX.digest),
        (["show", NAME], ALPINE.digest),
        (["show", f"{FORGOTTEN.digest}.tar"], FORGOTTEN.digest),
    ],
)
def test_what_reading_commands_take(words: list[str], digest: str, demo: Path, ocitui: Ocitui) -> None:
    """As for the daemon, a lookup is one of squashfs where no format is told: a miss here."""
    done = ocitui(*words, "--json", "-C", demo)
    told = words[0] == "show" or words[1].endswith(("tar", "erofs"))
    assert done.status == (0 if told else 1)
    form = words[1].rpartition(".")[2]
    if words[0] == "recall" and told:
        assert done.json["path"] == str(demo / f"{digest}.{form}")
    elif words[0] == "why":
        assert done.json["digest"] == digest
        assert [one["format"] for one in done.json["formats"]] == [form if told else "squashfs"]
    elif told:
        assert done.json["digest"] == digest


@pytest.mark.parametrize("words", [["resolve"], ["recall"], ["why"], ["delete"], ["point", BUSYBOX_NAME]])
def test_a_format_twice_is_refused(words: list[str], demo: Path, ocitui: Ocitui) -> None:
    done = ocitui(*words, f"{SHORT}.tar", "--format", "erofs", "-C", demo)
    assert (done.status, "is in tar, and erofs is asked for" in done.err) == (2, True)


@pytest.mark.parametrize(("word", "form"), [(SHORT, "tar"), (f"{SHORT}.erofs", "erofs"), (f"{SHORT}.tar", "tar")])
def test_point_takes_a_format(word: str, form: str, demo: Path, ocitui: Ocitui) -> None:
    plan = ocitui("point", BUSYBOX_NAME, word, "--json", "-C", demo).json["plan"]
    assert plan["entry"]["annotations"]["dev.krata.oci.packer.format"] == form


@pytest.mark.parametrize(
    ("words", "entries"),
    [([NAME], 1), ([SHORT], 2), ([f"{SHORT}.tar", f"{NAME}.tar"], 2), ([f"{BUSYBOX_NAME}.tar"], 1)],
)
def test_check_takes_entries(words: list[str], entries: int, demo: Path, ocitui: Ocitui) -> None:
    options = [text for word in words for text in ("--entry", word)]
    done = ocitui("check", *options, "--json", "-C", demo)
    assert json.loads(done.out.splitlines()[-1])["coverage"]["entries"] == entries
    for word in ("nowhere:1", f"{NAME}.erofs", f"{ALPINE.digest}.erofs", SHORT[:3]):
        assert ocitui("check", "--entry", word, "-C", demo).status == 1


def test_repair_takes_what_a_finding_is_about(demo: Path, ocitui: Ocitui) -> None:
    for word in (SITE.digest[7:13], "registry.example.com:5000/team/site:2024.06", f"{SITE.digest}.tar"):
        plan = ocitui("repair", "--only", word, "--json", "-C", demo).json["plan"]
        told = {one["finding"]["entry"]["digest"] for one in plan["left"]}
        assert told <= {SITE.digest}
        assert plan["left"] or plan["steps"]
    assert ocitui("repair", "--only", f"{SITE.digest}.erofs", "-C", demo).status == 1
    assert ocitui("repair", "--only", SITE.digest[7:10], "-C", demo).status == 1


def test_several_are_shown(demo: Path, ocitui: Ocitui) -> None:
    done = ocitui("show", NAME, SHORT, "config", "--json", "-C", demo)
    assert [(one["digest"], one["kind"], one["raw"]) for one in done.json["documents"]] == [
        (image.digest, "config", image.config_raw.decode()) for image in (ALPINE, BUSYBOX)
    ]
    done = ocitui("show", "--filter", "name:busybox format:erofs", "manifest", "--json", "-C", demo)
    assert [one["raw"].encode() for one in done.json["documents"]] == [BUSYBOX.manifest_raw]
    done = ocitui("show", SITE.digest, SHORT, "config", "--json", "-C", demo)
    assert (done.status, [one["raw"] is None for one in done.json["documents"]]) == (1, [True, False])
    assert f"there is no config of {SITE.digest}" in done.err


@pytest.mark.parametrize("command", ["list", "delete", "show"])
@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("sate:bad", "state:bad may be meant"),
        ("siez:3M", "size>3M may be meant"),
        ("size>300q", "as in size>100M"),
        ("siez>300M", "size>300M may be meant"),
        ("size:300M", "size>300M or size<300M may be meant"),
        ("age:30d", "age>30d or age<30d may be meant"),
        ("name=web", "name:web may be meant"),
        ("!stat=bad", "state:bad may be meant"),
        ("tier>3", "only size and age are compared"),
        ("!arch:amd64", "the fields are name, tag"),
    ],
)
def test_a_filter_that_is_none_is_refused(command: str, text: str, meant: str, demo: Path, ocitui: Ocitui) -> None:
    before = (demo / "index.json").read_bytes()
    done = ocitui(command, "--filter", text, *(["--yes"] if command == "delete" else []), "-C", demo)
    assert (done.status, done.out) == (2, "")
    assert meant in done.err
    assert (demo / "index.json").read_bytes() == before


@pytest.mark.parametrize(
    "words",
    [
        ["delete", "--filter", " ", "--yes"],
        ["delete", "--yes"],
        ["delete", NAME, "--filter", "web", "--yes"],
        ["delete", "sha256:", "--yes"],
        ["show"],
    ],
)
def test_everything_is_never_meant(words: list[str], demo: Path, ocitui: Ocitui) -> None:
    before = (demo / "index.json").read_bytes()
    assert ocitui(*words, "-C", demo).status == 2
    assert (demo / "index.json").read_bytes() == before


def test_what_is_not_there_is_told_with_what_is_alike(demo: Path, ocitui: Ocitui) -> None:
    for words in (["show", "alpine"], ["delete", "alpine:3.20"], ["check", "--entry", "alpine"]):
        done = ocitui(*words, "-C", demo)
        assert (done.status, done.err) == (1, f"ocitui: there is no entry {words[-1]} (there is {NAME})\n")
    assert ocitui("delete", "--filter", "name:nowhere", "-C", demo).status == 1


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["delete", NAME], 4),
        (["delete", "--filter", "alpine"], 4),
        (["show", NAME], 4),
        (["show", "--filter", "alpine"], 4),
        (["show", f"{ALPINE.digest}.tar"], 0),
        (["resolve", NAME], 4),
        (["recall", NAME], 4),
        (["point", NAME, SHORT], 4),
        (["why", f"{NAME}.tar"], 4),
        (["check", "--entry", NAME], 4),
        (["check", "--entry", SHORT], 1),
        (["repair", "--only", f"{SHORT}.tar"], 1),
    ],
)
def test_a_corrupt_index_is_told_in_a_line(words: list[str], status: int, demo: Path, ocitui: Ocitui) -> None:
    data = (demo / "index.json").read_bytes()
    (demo / "index.json").write_bytes(data[:-100])
    done = ocitui(*words, "-C", demo)
    assert done.status == status
    assert "Traceback" not in done.out + done.err

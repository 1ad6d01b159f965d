"""krata's domains, as Xen's tools tell what is in xenstore."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocitui.host.programs import Domain, domains_of, loops_in, read_domains
from tests.host.xenstore import ROOT, StandIn, escaped, guest, loops_of, served, use_tools
from tests.tools import need

ONE, OTHER = "5f0c4d5e-9d35-4a1e-9d35-0a3a5a2f7f10", "a3b1c6de-6d0c-4a1e-9d35-0a3a5a2f7f10"
IMAGE = f"sha256:{'ab' * 32}.squashfs"
GUESTS = {**guest(7, ONE, "web", loops_of(Path("/var/lib/krata"), ONE, IMAGE)), **guest(12, OTHER)}
DOMAINS = (Domain(7, ONE, "web", {"/dev/loop3": IMAGE, "/dev/loop4": "config.squashfs"}), Domain(12, OTHER))
OTHERS = {f"{ROOT}/9/name": b"made by xl", f"{ROOT}/10/krata/zone": b"", f"{ROOT}/0/krata/uuid": OTHER.encode()}
UUID, NAME, LOOPS = (f"{ROOT}/7/krata/{key}" for key in ("uuid", "name", "loops"))


@pytest.fixture
def xenstore(open_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    return StandIn(open_path, monkeypatch)


def test_the_domains_of_krata_with_what_they_hold(xenstore: StandIn) -> None:
    xenstore.prints({**GUESTS, **OTHERS})
    assert read_domains() == DOMAINS
    xenstore.prints(OTHERS)
    assert read_domains() == ()
    xenstore.prints({})
    assert read_domains() == ()


def test_a_digest_has_a_colon_of_its_own() -> None:
    text = f"/dev/loop3:/var/lib/krata/cache/image/{IMAGE}:none,/dev/loop4:/tmp/a/config.squashfs:/tmp/a,,x,:y:z"
    assert loops_in(text) == {"/dev/loop3": IMAGE, "/dev/loop4": "config.squashfs", "x": ""}


@pytest.mark.parametrize("uuid", ["", "none", ONE.upper(), f"{{{ONE}}}", ONE.replace("-", ""), f"{ONE} "])
def test_of_a_uuid_that_is_none_nothing_is_known(uuid: str, xenstore: StandIn) -> None:
    xenstore.prints({**GUESTS, UUID: uuid.encode()})
    assert read_domains() is None


@pytest.mark.parametrize("tool", ["list", "read"])
@pytest.mark.parametrize(
    "script",
    [
        "echo 'xenstore-list: xs_open: No such file or directory' >&2; exit 1",
        f"echo {ROOT}/0; exit 1",
        f"echo {ROOT}/7",
        "exit 0",
        "exec sleep 600",
        f"echo {ROOT}/0; exec sleep 600",
        "exec cat /dev/zero",
    ],
)
def test_a_tool_that_does_not_answer_leaves_it_unknown(
    tool: str, script: str, xenstore: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    xenstore.prints(GUESTS)
    xenstore.runs(tool, f"#!/bin/sh\n{script}\n")
    monkeypatch.setattr("ocitui.host.programs._SECONDS", 0.2)
    assert read_domains() is None


def test_without_the_tools_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_tools(monkeypatch)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert read_domains() is None


@pytest.mark.parametrize(
    "line",
    [f"{LOOPS}: web", "web", "", f"{NAME}:web", *(f"{NAME}: web{odd}" for odd in ("\\", "\\q", "\\x4", "\\377"))],
)
def test_what_is_no_line_of_the_node_that_was_asked_for_is_no_answer(line: str) -> None:
    told = f"{UUID}: {ONE}"
    assert domains_of([UUID, NAME], [told, f"{NAME}: web"]) == (Domain(7, ONE, "web"),)
    assert domains_of([UUID, NAME], [told, line]) is None


@given(st.lists(st.tuples(st.uuids(), st.text(max_size=20)), max_size=5))
def test_what_is_there_is_said_and_nothing_else(guests: list[tuple[object, str]]) -> None:
    nodes: dict[str, bytes] = {}
    for domid, (uuid, name) in enumerate(guests, 1):
        nodes |= {f"{ROOT}/{domid}/krata/uuid": str(uuid).encode(), f"{ROOT}/{domid}/krata/name": name.encode()}
    lines = [f"{path}: {escaped(value).decode('ascii')}" for path, value in nodes.items()]
    assert not any("\n" in line for line in lines)
    assert domains_of([*nodes], lines) == tuple(
        Domain(domid, str(uuid), name) for domid, (uuid, name) in enumerate(guests, 1)
    )
    assert domains_of([*nodes, NAME], lines) is None
    assert domains_of([*nodes], [*lines, "x"]) is None


_pieces = st.one_of(
    st.binary(max_size=8).map(lambda raw: raw.decode("latin-1")), st.sampled_from([UUID, NAME, ": ", ONE])
)
_lines = st.one_of(
    st.lists(_pieces, max_size=6).map("".join),
    st.sampled_from([f"{UUID}: {ONE}", f"{NAME}: ", f"{LOOPS}: ,,::a:"]),
)


@given(st.lists(st.sampled_from([UUID, NAME, LOOPS]), unique=True), st.lists(_lines, max_size=3))
def test_no_bytes_break_it_and_no_domain_is_said_that_is_not_there(nodes: list[str], lines: list[str]) -> None:
    for domain in domains_of(nodes, lines) or ():
        assert (domain.domid, UUID in nodes) == (7, True)
        assert f"{UUID}: {domain.uuid}" in lines


@pytest.fixture
def real_tools() -> Path:
    """Where Xen's own are; to be asked for before the stand-ins are in their place."""
    need("xenstore-list", "xenstore-read")
    return Path(shutil.which("xenstore-read") or "").parent


def test_the_real_tools_print_what_the_stand_ins_do(
    real_tools: Path, open_path: Path, tmp_path: Path, xenstore: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = bytes(range(256)) + b'" = "\\x41 \\'
    nodes = {**GUESTS, **OTHERS, f"{ROOT}/12/krata/name": odd, f"{ROOT}/12/krata/loops": b""}
    monkeypatch.setenv("XENSTORED_PATH", str(tmp_path / "socket"))
    xenstore.prints(nodes)
    stood_in = read_domains()
    assert stood_in is not None
    assert stood_in[1].name == odd.decode(errors="replace")
    places = open_path, real_tools
    asked = (
        ["list", ROOT], ["list", f"{ROOT}/7", f"{ROOT}/12"], ["list", f"{ROOT}/7", f"{ROOT}/99"],
        ["read", UUID, LOOPS], ["read", f"{ROOT}/12/krata/name", f"{ROOT}/12/krata/loops"], ["read", f"{ROOT}/99"],
    )  # fmt: skip
    with served(nodes, tmp_path / "socket"):
        for name, *paths in asked:
            commands = [[f"{place}/xenstore-{name}", "-p", *paths] for place in places]
            of_both = [subprocess.run(one, capture_output=True, check=False, timeout=60) for one in commands]
            stand_in, tool = ((done.returncode, sorted(done.stdout.split(b"\n"))) for done in of_both)
            assert stand_in == tool, (name, paths)
            assert of_both[0].stderr == of_both[1].stderr
        monkeypatch.setenv("PATH", str(places[1]))
        assert read_domains() == stood_in

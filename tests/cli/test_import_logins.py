"""A login that is asked for on the terminal, and who else may be sent one."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import termios
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pexpect
import pytest

from ocitui.cache import Ledger, PackedFormat
from ocitui.importing import Credentials, ImportRequest, recorded_import
from tests.cli.conftest import Ocitui
from tests.cli.import_support import put_image, running
from tests.cli.test_processes import PROGRAM, TIMEOUT, ended, spawn
from tests.importing.pulling import write_auths
from tests.importing.registry_server import FaultyRegistry, Reply, Request
from tests.tools import wait_for

pytestmark = pytest.mark.slow

NAME, PASSWORD = "anna", "s3cret pass"
BASIC = Credentials(NAME, PASSWORD).basic()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    directory = tmp_path / "cache"
    directory.mkdir()
    return directory


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyRegistry]:
    """Wants a login of its own; nobody's are known."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    refusal = Reply(401, {"WWW-Authenticate": 'Basic realm="ours"'})
    with running(FaultyRegistry()) as serving:
        put_image(serving, b"small")
        serving.rules.append(lambda request: None if request.authorization == BASIC else refusal)
        yield serving


def all_that_is_written(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_a_login_is_asked_for_used_and_kept_nowhere(registry: FaultyRegistry, cache: Path, tmp_path: Path) -> None:
    child = spawn("import", f"{registry.host}/team/app:1.0", "-C", cache, "--format", "tar", "--login", "--json")
    child.expect(f"name for {registry.host}: ")
    child.sendline(NAME)
    child.expect(f"password of {NAME}: ")
    wait_for(lambda: not termios.tcgetattr(child.child_fd)[3] & termios.ECHO, "the echo is off")
    child.sendline(PASSWORD)
    text, status = ended(child)
    assert status == 0, text
    assert PASSWORD not in text
    assert '"outcome": "stored"' in text
    written = all_that_is_written(tmp_path)
    assert PASSWORD.encode() not in written
    assert BASIC.encode() not in written
    (source,) = Ledger.open(cache).sources.values()
    assert source.private, "the daemon's own client has no login"


def test_the_advice_of_a_refusal_is_to_log_in(registry: FaultyRegistry, cache: Path, ocitui: Ocitui) -> None:
    refused = ocitui("inspect", f"{registry.host}/team/app:1.0", "-C", cache)
    assert refused.status == 4
    assert "or import it with --login" in refused.err
    child = spawn("inspect", f"{registry.host}/team/app:1.0", "-C", cache, "--login")
    child.expect("name for ")
    child.sendline(NAME)
    child.expect("password of ")
    child.sendline(PASSWORD)
    text, status = ended(child)
    assert (status, f"logged in as {NAME}" in text) == (0, True)


def asked(registry: FaultyRegistry, cache: Path, at: str) -> pexpect.spawn[str]:
    """An import that waits for an answer to this question."""
    child = spawn("import", f"{registry.host}/team/app:1.0", "-C", cache, "--login")
    child.expect("name for ")
    if at != "name for ":
        child.sendline(NAME)
        child.expect(at)
        wait_for(lambda: not termios.tcgetattr(child.child_fd)[3] & termios.ECHO, "the echo is off")
    return child


@pytest.mark.parametrize("at", ["name for ", "password of "])
def test_ctrl_c_at_the_question_ends_it_in_one_line(at: str, registry: FaultyRegistry, cache: Path) -> None:
    child = asked(registry, cache, at)
    child.sendintr()
    text, status = ended(child)
    assert status == 130
    assert re.findall(r"ocitui: .*", text.replace("\r", "")) == ["ocitui: interrupted by SIGINT (nothing was changed)"]
    assert registry.requests == []


@pytest.mark.parametrize("at", ["name for ", "password of "])
def test_ctrl_d_at_the_question_cancels(at: str, registry: FaultyRegistry, cache: Path) -> None:
    child = asked(registry, cache, at)
    child.sendeof()
    text, status = ended(child)
    assert status == 130
    assert re.findall(r"ocitui: .*", text.replace("\r", "")) == ["ocitui: cancelled (nothing was changed)"]
    assert registry.requests == []


def test_a_login_is_asked_for_only_where_a_registry_is_gone_on_with(
    cache: Path, tmp_path: Path, ocitui: Ocitui
) -> None:
    for words in ([], ["--clear", "--yes"]):
        refused = ocitui("imports", "--login", *words, "-C", cache)
        assert (refused.status, "--login is for --go-on" in refused.err) == (2, True)
    (tmp_path / "empty").mkdir()
    request = ImportRequest(source=f"oci:{tmp_path / 'empty'}")
    with pytest.raises(asyncio.CancelledError), recorded_import(cache, request):
        raise asyncio.CancelledError
    failed = ocitui("imports", "--go-on", "--login", "-C", cache)
    assert (failed.status, "--login" in failed.err) == (4, False)


def test_who_asks_registries_asks_for_a_login(registry: FaultyRegistry, cache: Path, ocitui: Ocitui) -> None:
    name = f"{registry.host}/team/app:1.0"
    child = spawn("import", name, "-C", cache, "--format", "tar", "--login")
    answer(child)
    assert ended(child)[1] == 0
    (packed,) = cache.glob("*.tar")

    def said(*words: str) -> str:
        child = spawn(*words, "-C", cache, "--login", registry.host)
        answer(child)
        return " ".join(ended(child)[0].split())

    refused = ocitui("why", name, "--format", "tar", "--ask", "-C", cache)
    assert "gives it to ocitui" not in " ".join(refused.out.split())
    assert "gives it to ocitui, with what the daemon has not" in said("why", name, "--format", "tar", "--ask")
    assert "registry-ocitui" in said("prune", "--unused", "--ask", "--json")
    packed.unlink()
    assert "mended" in said("repair", "--registry", "--apply", "--yes")
    assert packed.exists()
    for words, option in ((["why", name], "--ask"), (["prune", "--unused"], "--ask"), (["repair"], "--registry")):
        refused = ocitui(*words, "-C", cache, "--login", registry.host)
        assert (refused.status, f"--login is for {option}" in refused.err) == (2, True)
    bad = ocitui("why", name, "--ask", "-C", cache, "--login", "anna:PASS@registry.example")
    assert (bad.status, "PASS" in bad.err) == (2, False)


def answer(child: pexpect.spawn[str]) -> None:
    child.expect("name for ")
    child.sendline(NAME)
    child.expect("password of ")
    child.sendline(PASSWORD)


def test_without_a_terminal_it_is_refused_and_the_advice_works(
    registry: FaultyRegistry, cache: Path, tmp_path: Path, ocitui: Ocitui
) -> None:
    words = ["import", f"{registry.host}/team/app:1.0", "-C", str(cache), "--format", "tar"]
    command = ["setsid", "--wait", *PROGRAM, *words, "--login"]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    assert done.returncode == 2
    advice = "log in with skopeo login, or name the credentials with --authfile"
    assert done.stderr == f"ocitui: --login has no terminal to ask on ({advice})\n"
    authfile = write_auths(tmp_path / "auth.json", registry.host, username=NAME, password=PASSWORD)
    assert ocitui(*words, "--authfile", authfile).status == 0


def test_login_is_for_a_registry(tmp_path: Path, cache: Path, ocitui: Ocitui) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "oci-layout").write_text("{}")
    for words in (["--login"], ["--allow-realm", "auth.example"]):
        refused = ocitui("inspect", f"oci:{tmp_path / 'a'}", "-C", cache, *words)
        assert (refused.status, f"{words[0]} is for a registry" in refused.err) == (2, True)
    for bad in ("https://auth.example", "anna:PASS@auth.example", "a b"):
        refused = ocitui("inspect", "registry.example/a", "-C", cache, "--allow-realm", bad)
        assert refused.status == 2
        assert "PASS" not in refused.err


@pytest.fixture
def realm(registry: FaultyRegistry) -> str:
    """The registry, asked as 127.0.0.1, has its tokens given at localhost."""
    realm = f"localhost:{registry.host.rpartition(':')[2]}"
    challenge = Reply(401, {"WWW-Authenticate": f'Bearer realm="http://{realm}/token",service="s"'})

    def guard(request: Request) -> Reply | None:
        if request.path == "/token":
            return Reply(body=b'{"token": "t"}') if request.authorization == BASIC else Reply(401)
        return None if request.authorization == "Bearer t" else challenge

    registry.rules[:] = [guard]
    return realm


def test_a_realm_is_asked_about_once(
    registry: FaultyRegistry, realm: str, cache: Path, tmp_path: Path, ocitui: Ocitui
) -> None:
    authfile = write_auths(tmp_path / "auth.json", registry.host, username=NAME, password=PASSWORD)
    words = ["inspect", f"{registry.host}/team/app:1.0", "-C", str(cache), "--authfile", str(authfile)]
    refused = ocitui(*words, "--json")
    assert (refused.status, refused.json["error"]["code"]) == (4, "unknown-realm")
    assert f"{registry.host} wants its login sent to {realm}" in refused.err
    assert registry.asked("/token") == []
    for typed, status in (("no", 130), ("yes", 0)):
        child = spawn(*words)
        child.expect("may it be sent there, from now on")
        child.sendline(typed)
        assert ended(child)[1] == status
        assert bool(registry.asked("/token")) == (typed == "yes")
    assert ocitui(*words).status == 0
    assert ocitui("import", *words[1:], "--format", "tar").status == 0


def test_an_import_asks_about_a_realm_whatever_yes_says(
    registry: FaultyRegistry, realm: str, cache: Path, tmp_path: Path
) -> None:
    authfile = write_auths(tmp_path / "auth.json", registry.host, username=NAME, password=PASSWORD)
    child = spawn(
        "import", f"{registry.host}/team/app:1.0", "-C", cache, "--authfile", authfile, "--format", "tar", "--yes"
    )
    child.expect("may it be sent there, from now on")
    child.sendline("yes")
    text, status = ended(child)
    assert status == 0, text


def test_the_option_agrees_to_a_realm_for_good(
    registry: FaultyRegistry, realm: str, cache: Path, tmp_path: Path, ocitui: Ocitui
) -> None:
    authfile = write_auths(tmp_path / "auth.json", registry.host, username=NAME, password=PASSWORD)
    words = [
        "import",
        f"{registry.host}/team/app:1.0",
        "-C",
        str(cache),
        "--authfile",
        str(authfile),
        "--format",
        "tar",
    ]
    assert ocitui(*words, "--allow-realm", "other.example").status == 4
    assert registry.asked("/token") == []
    assert ocitui(*words, "--allow-realm", realm.upper()).status == 0
    assert ocitui(*words, "--again").status == 0
    kept = json.loads((tmp_path / "config" / "ocitui" / "realms.toml").read_text().partition(" = ")[2])
    assert kept == ["other.example", realm]
    assert realm.encode() not in all_that_is_written(cache / ".ocitui"), "it is never kept in the cache"


def test_an_interrupted_import_goes_on_with_a_login(
    registry: FaultyRegistry, cache: Path, tmp_path: Path, ocitui: Ocitui
) -> None:
    request = ImportRequest(source=f"docker://{registry.host}/team/app:1.0", format=PackedFormat.TAR)
    with suppress(KeyboardInterrupt), recorded_import(cache, request):
        raise KeyboardInterrupt
    assert ocitui("imports", "--go-on", "-C", cache).status == 4
    child = spawn("imports", "--go-on", "--login", "-C", cache)
    child.expect(f"name for {registry.host}: ")
    child.sendline(NAME)
    child.expect("password of ")
    child.sendline(PASSWORD)
    text, status = ended(child)
    assert status == 0, text
    assert PASSWORD.encode() not in all_that_is_written(tmp_path)
    assert os.listdir(cache / ".ocitui" / "imports") == []

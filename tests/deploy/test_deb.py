"""The Debian package: it is made, installed, run and removed, with dpkg's own eyes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ocitui import __version__
from ocitui.cli.demo_cache import make_demo_cache
from tests.deb import LIBRARY, make_deb
from tests.tools import need

pytestmark = pytest.mark.slow
SYSTEM_PYTHON = Path("/usr/bin/python3")


@pytest.fixture(scope="module")
def deb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, for the Python that Debian has here."""
    need("dpkg-deb", "dpkg", str(SYSTEM_PYTHON))
    minor = "{}.{}".format(*sys.version_info)
    said = subprocess.check_output([SYSTEM_PYTHON, "--version"], text=True)
    if not said.startswith(f"Python {minor}."):
        pytest.skip(f"the tests run by Python {minor}, Debian has {said.strip()}")
    old = os.umask(0o077)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DPKG_DEB_COMPRESSOR_LEVEL", "0")  # the best takes ten seconds
            return make_deb(tmp_path_factory.mktemp("deb"))
    finally:
        os.umask(old)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root where nothing is installed."""
    folder = tmp_path / "root" / "var/lib/dpkg"
    (folder / "updates").mkdir(parents=True)
    (folder / "info").mkdir()
    (folder / "status").touch()
    return tmp_path / "root"


def dpkg(root: Path, *words: str | Path) -> str:
    # There is no Python in that root: the scripts are run from outside, and Depends is looked at elsewhere.
    forced = ("--force-script-chrootless", "--force-not-root", "--force-depends")
    command = ["dpkg", f"--root={root}", f"--log={root}/log", *forced, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def ran(root: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """What the installed program does, with nothing of this environment's."""
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(root), "PYTHONPATH": "/nowhere"}
    return subprocess.run(
        [root / "usr/bin/ocitui", *words], env=environment, cwd="/", capture_output=True, text=True, check=False
    )


def test_it_is_installed_runs_and_goes(deb: Path, root: Path, tmp_path: Path) -> None:
    dpkg(root, "--install", deb)
    library = root / LIBRARY
    compiled = {path.name.partition(".")[0] for path in (library / "ocitui").glob("__pycache__/*.pyc")}
    assert compiled == {path.stem for path in (library / "ocitui").glob("*.py")}
    assert ran(root, "--version").stdout.startswith(f"ocitui, version {__version__}\n")
    assert f"ocitui in {library}/ocitui" in ran(root, "--version").stdout
    make_demo_cache(tmp_path / "demo", packers=False)
    checked = ran(root, "check", "-C", tmp_path / "demo", "--depth", "deep")
    assert (checked.returncode, checked.stderr) == (1, "")
    units = ran(root, "units", "-C", tmp_path / "demo").stdout
    assert f"ExecStart={root}/usr/bin/ocitui check" in units
    dpkg(root, "--remove", "ocitui")
    assert not library.exists()


def test_everybody_may_read_it_and_only_root_write(deb: Path) -> None:
    """Whatever the umask was where it was made."""
    listed = subprocess.check_output(["dpkg-deb", "--contents", deb], text=True)
    assert {line.split()[1] for line in listed.splitlines()} == {"root/root"}
    assert {line.split()[0] for line in listed.splitlines()} == {"drwxr-xr-x", "-rw-r--r--", "-rwxr-xr-x"}
    assert not re.search(r"__pycache__|/RECORD$|direct_url", listed, re.MULTILINE)


def test_it_asks_for_the_one_python_that_its_libraries_are_for(deb: Path) -> None:
    depends = subprocess.check_output(["dpkg-deb", "--field", deb, "Depends"], text=True)
    major, minor = sys.version_info[:2]
    assert depends.startswith(f"python3 (>= {major}.{minor}), python3 (<< {major}.{minor + 1}), ")


_WHOLE = """
set -e
mount -t tmpfs none {top}
mkdir {top}/upper {top}/work {top}/system
mount -t overlay overlay -o lowerdir=/,upperdir={top}/upper,workdir={top}/work {top}/system
cp {deb} {top}/system/ocitui.deb
chroot {top}/system sh -ec '
    cd /
    export PATH=/usr/sbin:/usr/bin:/sbin:/bin
    dpkg -i /ocitui.deb
    ocitui --version
    test -z "$(dpkg --verify ocitui)"
    find /usr/lib/ocitui/ocitui/__pycache__ -name "main*" -o -name "text*.pyc" | grep -c .
    dpkg -r ocitui
    if test -e /usr/bin/ocitui; then exit 1; fi
    if test -e /usr/lib/ocitui; then exit 1; fi
'
"""


@pytest.mark.long
def test_a_debian_system_takes_it(deb: Path, tmp_path: Path) -> None:
    """This one, with what is written over it: dpkg looks for what the package depends on itself."""
    need("unshare", "chroot")
    can = subprocess.run(["unshare", "--mount", "--net", "true"], capture_output=True, check=False)
    if can.returncode:
        pytest.skip("no mounts of its own for this user")
    (tmp_path / "top").mkdir()
    script = _WHOLE.format(top=tmp_path / "top", deb=deb)
    done = subprocess.run(
        ["unshare", "--mount", "--net", "sh", "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"ocitui, version {__version__}\nPython" in done.stdout
    assert "/usr/lib/ocitui/ocitui\n" in done.stdout

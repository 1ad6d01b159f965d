"""Makes a Debian package that holds all it needs, for hosts without a network: `python -m tests.deb [FOLDER]`.

It is for this machine's architecture and for the Python that makes it, of which it asks for the same minor version: the
libraries are built for that one.
"""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from ocitui import __version__
from tests.manpages import PAGES
from tests.tools import ROOT

LIBRARY = "usr/lib/ocitui"
_MINOR = sys.version_info[:2]

_PROGRAM = f"""\
#!/usr/bin/python3 -I
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "{LIBRARY}"))
from ocitui.__main__ import main

main()
"""
_CONTROL = """\
Package: ocitui
Version: {version}
Architecture: {architecture}
Maintainer: ocitui <root@localhost>
Installed-Size: {kilobytes}
Depends: python3 (>= {python[0]}.{python[1]}), python3 (<< {python[0]}.{next}), libc6 (>= 2.28)
Recommends: squashfs-tools, erofs-utils
Section: admin
Priority: optional
Description: see, understand and change krata's image cache
 A screen and a command line: what is in the cache, what is wrong with it, and
 what mends it. The libraries that it needs are within.
"""
# Users cannot write them, and without them each start would compile anew. DPKG_ROOT is dpkg's: empty on a host.
_SCRIPTS = {
    "postinst": f"""\
#!/bin/sh
set -e
[ "$1" = configure ] || exit 0
/usr/bin/python3 -I -m compileall -q -f -s "$DPKG_ROOT" "$DPKG_ROOT/{LIBRARY}"
""",
    "prerm": f"""\
#!/bin/sh
set -e
find "$DPKG_ROOT/{LIBRARY}" -type d -name __pycache__ -prune -exec rm -r {{}} +
""",
}
_COPYRIGHT = f"""\
The libraries below /{LIBRARY} are their authors': the licence of each is in its folder *.dist-info there.
"""


def make_deb(folder: Path) -> Path:
    """The package, made in a folder. Raises CalledProcessError where pip or dpkg-deb fails."""
    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        root.chmod(0o755)
        _put_library(root / LIBRARY)
        _write(root / "usr/bin/ocitui", _PROGRAM, executable=True)
        _write(root / "usr/share/doc/ocitui/copyright", _COPYRIGHT)
        _write(root / "usr/share/bash-completion/completions/ocitui", _said("completion", "bash"))
        for page in PAGES.iterdir():
            packed = root / "usr/share/man/man1" / f"{page.name}.gz"
            packed.parent.mkdir(parents=True, exist_ok=True)
            packed.write_bytes(gzip.compress(page.read_bytes(), mtime=0))
        size = sum(path.lstat().st_size for path in root.rglob("*"))
        architecture = subprocess.check_output(["dpkg", "--print-architecture"], text=True).strip()
        fields = {"version": __version__, "architecture": architecture, "kilobytes": size >> 10}
        control = _CONTROL.format(**fields, python=_MINOR, next=_MINOR[1] + 1)
        _write(root / "DEBIAN/control", control)
        for name, script in _SCRIPTS.items():
            _write(root / "DEBIAN" / name, script, executable=True)
        _open_to_all(root)
        target = folder / f"ocitui_{__version__}_{architecture}.deb"
        subprocess.run(["dpkg-deb", "--root-owner-group", "-Zxz", "--build", made, str(target)], check=True)
    return target


def _put_library(target: Path) -> None:
    """ocitui, and what it needs, without what only an installer of Python's wants."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    # Else pip takes what this environment has for what is to be installed.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([*pip, "--no-compile", "--target", str(target), str(ROOT)], check=True, env=environment)
    for name in ("bin", "share"):
        shutil.rmtree(target / name, ignore_errors=True)
    for name in ("RECORD", "direct_url.json", "REQUESTED", "INSTALLER"):
        for path in target.glob(f"*.dist-info/{name}"):
            path.unlink()


def _said(*words: str) -> str:
    return subprocess.check_output([sys.executable, "-m", "ocitui", *words], text=True, cwd=ROOT)


def _write(path: Path, text: str, *, executable: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755 if executable else 0o644)


def _open_to_all(root: Path) -> None:
    """Whatever the umask was here, everybody may read it there, and only root write."""
    for path in root.rglob("*"):
        if not path.is_symlink():
            runs = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if runs else 0o644)


if __name__ == "__main__":
    print(make_deb(Path(sys.argv[1] if len(sys.argv) > 1 else ".")))

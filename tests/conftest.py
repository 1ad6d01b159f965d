"""What every test gets: settings of hypothesis, and no settings of whoever runs the tests."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from ocitui.cache.actor import SYSLOG_VARIABLE
from ocitui.host import daemon
from tests.krata import make_krata_cache
from tests.tools import IN_CI, LONG, examples

# A time limit for one example says more about the machine than about the code.
settings.register_profile("default", deadline=None, max_examples=100)
settings.register_profile(
    "ci",
    deadline=None,
    max_examples=100,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
# Others in each run, and first those that failed.
settings.register_profile("fast", settings.get_profile("default"), max_examples=20)
settings.register_profile("long", settings.get_profile("ci"), max_examples=examples(100), derandomize=False)
settings.load_profile("long" if LONG else "ci" if IN_CI else "default")

# A test that needs a cache names it; none may find the operator's own. The terminal's size is that of whoever started
# pytest, whose readline sets it for all that it starts.
for name in ("OCITUI_CACHE", "COLUMNS", "LINES"):
    os.environ.pop(name, None)

# Nor are the operator's own settings read or written.
os.environ["XDG_CONFIG_HOME"] = os.path.join(tempfile.gettempdir(), f"ocitui-tests-{os.getpid()}")

# Nor are the authorities trusted that the host trusts: to read them takes each client of a registry 25 ms of CPU.
os.environ["SSL_CERT_FILE"] = os.devnull

# Nor does the log of the host get lines of tests, or a record the user who started them.
os.environ[SYSLOG_VARIABLE] = ""
os.environ.pop("SUDO_USER", None)

# A shell's background job ignores it, and what is started here would too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Thousands of tests stay until the end: the garbage collector is not to go through them, now or later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What waits a minute for a slow line begins at once, so that nobody waits for it in the end."""
    items.sort(key=lambda item: item.get_closest_marker("waits") is None)


def pytest_make_parametrize_id(val: object) -> str | None:
    """A short name for a case whose text or bytes are long."""
    if isinstance(val, str | bytes) and len(val) > 60:
        return f"{val[:40]!r}...{len(val)}"
    return None


@pytest.fixture(scope="session", autouse=True)
def no_daemon_of_the_host() -> Iterator[None]:
    """A daemon that runs on this host is not looked for; a test that wants one says which process, or makes a /proc."""
    listed = daemon._processes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(daemon, "_processes", lambda proc: iter(()) if proc == Path("/proc") else listed(proc))
        yield


@pytest.fixture(scope="session", autouse=True)
def no_guest_of_the_host() -> Iterator[None]:
    """Guests that run on this host are not looked for either."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ocitui.host.programs._LIST", "no-xenstore-list")
        yield


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A folder that any user may enter: not below pytest's own, which every other run that begins closes to them."""
    with tempfile.TemporaryDirectory(prefix="ocitui-open-") as folder:
        path = Path(folder)
        path.chmod(0o755)
        yield path


@pytest.fixture(scope="session")
def made_krata_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_krata_cache(tmp_path_factory.mktemp("krata"))


@pytest.fixture
def krata_cache(made_krata_cache: Path, tmp_path: Path) -> Path:
    """A copy of a small cache as krata's own store writes it: seven entries, all three formats."""
    return Path(shutil.copytree(made_krata_cache, tmp_path / "krata-cache"))

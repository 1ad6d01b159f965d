"""The metrics and the rules, by the real engines: promtool, node_exporter's textfile collector, Prometheus."""

from __future__ import annotations

import json
import re
import subprocess
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest

from ocitui.cli.demo_cache import make_demo_cache
from ocitui.cli.main import run
from tests.tools import ROOT, need, wait_for

pytestmark = pytest.mark.slow
RULES = ROOT / "ocitui" / "deploy" / "rules.yml"


def test_every_alarm_fires_when_it_should_and_not_else() -> None:
    need("promtool")
    tested = ROOT / "tests" / "deploy" / "rules_test.yml"
    done = subprocess.run(["promtool", "test", "rules", str(tested)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    alarms = re.findall(r"alert: (\w+)", RULES.read_text())
    assert len(alarms) > 5
    assert [alarm for alarm in alarms if f"alertname: {alarm}" not in tested.read_text()] == []


def test_the_rules_speak_of_metrics_that_there_are(tmp_path: Path) -> None:
    path = written(tmp_path)
    names = set(re.findall(r"ocitui_\w+", " ".join(re.findall(r"expr: (.*)", RULES.read_text()))))
    assert names - set(re.findall(r"^# TYPE (\S+)", path.read_text(), re.MULTILINE)) == set()


def written(folder: Path, *, gone: bool = False) -> Path:
    """The metrics of a demo cache that was read through, or of one that is not there."""
    cache, path = folder / ("gone" if gone else "demo"), folder / ("gone.prom" if gone else "demo.prom")
    if not gone:
        make_demo_cache(cache, packers=False)
    assert run(["check", "-C", str(cache), "--depth", "deep", "--prometheus", str(path)]) == (4 if gone else 1)
    return path


@pytest.mark.parametrize("gone", [False, True])
def test_promtool_has_nothing_to_say(gone: bool, tmp_path: Path) -> None:
    need("promtool")
    text = written(tmp_path, gone=gone).read_text()
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@contextmanager
def listening(pattern: str, *command: str | Path) -> Iterator[int]:
    """The port, chosen by the kernel, at which a program says that it listens; it is ended afterwards."""
    process = subprocess.Popen([str(word) for word in command], stderr=subprocess.PIPE, text=True)
    ports, said = list[int](), list[str]()

    def read() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            said.append(line)
            ports.extend(int(found) for found in re.findall(pattern, line))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        wait_for(lambda: ports or process.poll() is not None, f"{command[0]} listens")
        assert ports, said
        yield ports[0]
    finally:
        process.terminate()
        process.wait()
        reader.join()
        assert process.stderr is not None
        process.stderr.close()


def asked(port: int, path: str) -> Any:
    """What the API answers; an empty answer until it is ready."""
    with suppress(HTTPError), urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/{path}", timeout=30) as answer:
        return json.load(answer)["data"]
    return {"result": [], "alerts": []}


def values(port: int, query: str) -> dict[str, float]:
    """What Prometheus answers, by the label cache's last part."""
    found = asked(port, f"query?query={urllib.parse.quote(query)}")["result"]
    return {Path(one["metric"]["cache"]).name: float(one["value"][1]) for one in found}


def test_a_collector_takes_them_and_prometheus_fires(tmp_path: Path) -> None:
    """Of two caches of one host: one with findings, one that is gone."""
    need("prometheus", "prometheus-node-exporter")
    textfiles = tmp_path / "textfiles"
    textfiles.mkdir()
    for gone in (False, True):
        path = written(tmp_path, gone=gone)
        path.rename(textfiles / path.name)
    exporter = (
        *("prometheus-node-exporter", "--web.listen-address=127.0.0.1:0", "--collector.disable-defaults"),
        *("--collector.textfile", f"--collector.textfile.directory={textfiles}"),
    )
    with listening(r"[Ll]istening on.*?address=127\.0\.0\.1:(\d+)", *exporter) as collected:
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(RULES)],
            "scrape_configs": [{"job_name": "node", "static_configs": [{"targets": [f"127.0.0.1:{collected}"]}]}],
        }
        # JSON is YAML too.
        (tmp_path / "prometheus.yml").write_text(json.dumps(config))
        prometheus = (
            *("prometheus", f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"),
            "--web.listen-address=127.0.0.1:0",
        )
        with listening(r"[Ll]istening on.*?127\.0\.0\.1:(\d+)", *prometheus) as port:
            told = {
                "ocitui_cache_check_success": {"demo": 1, "gone": 0},
                "ocitui_cache_entries": {"demo": 8},
                "ocitui_build_info": {"demo": 1, "gone": 1},
                "ocitui_cache_unread_files": {"demo": 0},
            }
            wait_for(lambda: {query: values(port, query) for query in told} == told, "a scrape")
            fired = {"OcituiFindings": "demo", "OcituiCheckFailed": "gone", "OcituiDaemonGone": "demo"}

            def firing() -> dict[str, str]:
                alerts = asked(port, "alerts")["alerts"]
                labels = [one["labels"] for one in alerts if one["state"] == "firing"]
                return {one["alertname"]: Path(one["cache"]).name for one in labels}

            wait_for(lambda: firing() == fired, "the alarms")

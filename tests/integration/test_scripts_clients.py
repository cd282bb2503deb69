"""The real client libraries print, Tercel reads: `kestra` from PyPI and `@kestra-io/libs` from npm, old and new."""

import fcntl
import os
import subprocess
from pathlib import Path

import pytest

from tercel.model.catalog import Catalog
from tercel.model.task import LogLevel
from tercel.plugins import MODULES
from tercel.plugins.scripts import ScriptTask
from tests.run_contexts import DirectoryContext
from tests.tools import CACHE, need_npm, unavailable, venv_with

NODE_VERSIONS = ("1.3.0", "2.0.0")


def script(language: str, text: str) -> ScriptTask:
    found = Catalog(MODULES).find(f"io.kestra.plugin.scripts.{language}.Script")
    assert found is not None
    return found(id="task", type="t", runner="PROCESS", script=text)  # type: ignore[no-any-return]


def node_modules_with(version: str) -> Path:
    """A folder with `@kestra-io/libs` from npm; made once."""
    folder = CACHE / f"kestra-libs-{version}"
    folder.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "ready").exists():
            need_npm()
            command = ["npm", "install", "--no-save", "--no-audit", "--no-fund", f"@kestra-io/libs@{version}"]
            done = subprocess.run(command, cwd=folder, capture_output=True, timeout=300, check=False)
            if done.returncode:
                unavailable(f"npm's @kestra-io/libs {version}")
            (folder / "ready").touch()
    return folder / "node_modules"


@pytest.fixture
def context(tmp_path: Path) -> DirectoryContext:
    variables = {"labels": {"team": "a"}, "outputs": {"before": {"uri": "kestra:///x"}}, "envs": {"secret": "s"}}
    return DirectoryContext(tmp_path, variables=variables)


class TestPython:
    @pytest.fixture(params=["kestra==0.6.0", "kestra"], ids=["oldest", "newest"])
    def _python(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        python = venv_with(request.param)
        monkeypatch.setenv("PATH", f"{python.parent}{os.pathsep}{os.environ['PATH']}")

    @pytest.mark.usefixtures("_python")
    def test_given_outputs_and_metrics_of_any_version_then_they_arrive(self, context: DirectoryContext) -> None:
        text = """
from kestra import Kestra
Kestra.outputs({"data": "x", "nr": 42, "deep": {"list": [1, None, "é"]}})
Kestra.counter("rows", 10, {"file": "a.csv"})
Kestra.counter("rows", 5, {"file": "a.csv"})
Kestra.timer("duration", 2.12, {"file": "a.csv"})
Kestra.outputs({"nr": 43})
"""
        outputs = script("python", text).run(context)

        assert outputs["vars"] == {"data": "x", "nr": 43, "deep": {"list": [1, None, "é"]}}
        assert context.metrics == {
            ("counter", "rows", (("file", "a.csv"),)): 15,
            ("timer", "duration", (("file", "a.csv"),)): 2.12,
        }
        assert context.logger.at() == []
        assert not outputs.warned

    def test_given_the_logger_and_gauge_of_the_newest_then_they_arrive(
        self, context: DirectoryContext, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        python = venv_with("kestra")
        monkeypatch.setenv("PATH", f"{python.parent}{os.pathsep}{os.environ['PATH']}")
        text = """
from kestra import Kestra
Kestra.gauge("level", -5.2, {"x": "y"})
Kestra.gauge("level", 7, {"x": "y"})
logger = Kestra.logger()
logger.debug("quiet")
logger.info("said")
try:
    1 / 0
except ZeroDivisionError:
    logger.exception("boom")
"""
        outputs = script("python", text).run(context)

        assert context.metrics == {("gauge", "level", (("x", "y"),)): 7}
        (debug,), (info,), (error,) = map(context.logger.at, (LogLevel.DEBUG, LogLevel.INFO, LogLevel.ERROR))
        assert debug.endswith("quiet")
        assert info.endswith("said")
        assert "boom\nTraceback" in error
        assert "ZeroDivisionError" in error
        assert outputs.warned

    def test_given_the_context_of_the_newest_then_it_shows_the_execution_but_no_secrets(
        self, context: DirectoryContext, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        python = venv_with("kestra")
        monkeypatch.setenv("PATH", f"{python.parent}{os.pathsep}{os.environ['PATH']}")
        text = "from kestra import context\nprint(context.labels.team, context.outputs.before.uri, 'envs' in context)"

        script("python", text).run(context)

        assert context.logger.at() == ["a kestra:///x False"]


class TestNode:
    @pytest.mark.parametrize("version", NODE_VERSIONS)
    def test_given_outputs_metrics_and_logs_then_they_arrive(self, context: DirectoryContext, version: str) -> None:
        (context.working_directory / "node_modules").symlink_to(node_modules_with(version))
        text = """
const loaded = require("@kestra-io/libs");
const Kestra = loaded.default || loaded;
Kestra.outputs({data: "data", nr: 42, mybool: true, n: null, text: "é\\u2028"});
Kestra.counter("rows", 100, {partition: "file1"});
Kestra.timer("timer1", 0.103, {tag1: "hi"});
const logger = Kestra.logger();
logger.info("i", 3, {a: 1});
logger.warn("w");
"""
        outputs = script("node", text).run(context)

        assert outputs["vars"] == {"data": "data", "nr": 42, "mybool": True, "n": None, "text": "é\u2028"}
        assert context.metrics == {
            ("counter", "rows", (("partition", "file1"),)): 100,
            ("timer", "timer1", (("tag1", "hi"),)): 0.103,
        }
        assert context.logger.at(LogLevel.INFO) == ["i", "3", '{"a":1}']
        assert context.logger.at(LogLevel.WARN) == ["w"]
        assert outputs.warned

    @pytest.mark.parametrize("version", NODE_VERSIONS)
    def test_given_calls_without_a_value_then_the_rest_goes_on(self, context: DirectoryContext, version: str) -> None:
        (context.working_directory / "node_modules").symlink_to(node_modules_with(version))
        text = """
const loaded = require("@kestra-io/libs");
const Kestra = loaded.default || loaded;
Kestra.counter("nothing");
Kestra.outputs({after: 1});
"""
        outputs = script("node", text).run(context)

        assert outputs["vars"] == {"after": 1}
        assert context.metrics == {}
        assert [line.partition(":")[0] for line in context.logger.at()] == ["Invalid metric 'nothing'"]

"""An installed wheel has one name beside other distributions, and goes its own way to its modules.

The wheel itself is not built here, which takes minutes: what it would hold is laid out by the same
table of pyproject.toml.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAME = "scai_gateway"
OURS = {"engine", "workers", "native", "tools"}
_FOREIGN = "raise SystemExit('another distribution')\n"


def _project() -> dict[str, dict[str, dict[str, object]]]:
    found: dict[str, dict[str, dict[str, object]]] = tomllib.loads(
        (ROOT / "pyproject.toml").read_text()
    )
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site-packages with what the wheel holds, and another distribution's `tools` and others."""
    directory = tmp_path_factory.mktemp("site")
    settings = _project()["tool"]["scikit-build"]
    table = settings["wheel"]["packages"]  # type: ignore[index]
    assert isinstance(table, dict)
    ignored = shutil.ignore_patterns("__pycache__", "src", "CMakeLists.txt")
    for target, source in table.items():
        shutil.copytree(ROOT / source, directory / target, ignore=ignored, dirs_exist_ok=True)
    from native import _core

    shutil.copy(_core.__file__, directory / NAME / "native")
    for name in OURS:
        (directory / name).mkdir()
        (directory / name / "__init__.py").write_text(_FOREIGN)
    return directory


def run(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python without what leads to this checkout."""
    paths = [str(site), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    return subprocess.run(
        [sys.executable, "-S", "-P", *arguments],
        cwd=site,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_everything_of_the_wheel_lies_under_one_name() -> None:
    project = _project()
    settings = project["tool"]["scikit-build"]
    packages = settings["wheel"]["packages"]  # type: ignore[index]
    assert {target.partition("/")[0] for target in packages} == {NAME}
    assert {target.partition("/")[2] for target in packages} - {""} == OURS
    assert settings["wheel"]["install-dir"] == NAME, "the native module, too"  # type: ignore[index]
    assert list(packages)[-1] == NAME, "a file goes where the last says"
    scripts = project["project"]["scripts"]
    assert {str(script).partition(":")[0] for script in scripts.values()} == {NAME}


def test_its_commands_take_their_own_modules(site: Path) -> None:
    start = f"import sys; sys.argv = ['scai', *sys.argv[1:]]; from {NAME} import main; main()"
    done = run(site, "-c", start, "config", "show")
    assert (done.returncode, done.stderr) == (0, "")
    assert "[storage_scp]" in done.stdout
    foreign = run(site, "-c", "import tools")
    assert "another distribution" in foreign.stderr, "which is there all the same"


def test_what_they_start_does_so_too(site: Path) -> None:
    child = (
        f"import {NAME}, subprocess, sys\n"
        "from workers.frame.environment import environment_of_children\n"
        "line = [sys.executable, '-S', '-P', '-m', 'workers']\n"
        "sys.exit(subprocess.run(line, env=environment_of_children()).returncode)\n"
    )
    done = run(site, "-c", child)
    assert "it is of no use by itself" in done.stderr
    assert "another distribution" not in done.stderr

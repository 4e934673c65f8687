"""A copy of the tree to plant faults in, with a native module of its own.

The environment's editable installation leads every import to the tree it was installed from. A
`sitecustomize` in the copy takes its finder away, in the tests and in every process they start.
"""

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent.parent
_SITE: Final = '''"""Imports come from this copy alone; a test's sitecustomize is run too."""
import sys
from pathlib import Path
if not hasattr(sys, "_in_copy"):
    sys._in_copy = True
    sys.meta_path[:] = [one for one in sys.meta_path if "Editable" not in type(one).__name__
                        and "ScikitBuild" not in type(one).__name__]
    for _path in [Path(one) / "sitecustomize.py" for one in sys.path]:
        if _path.is_file() and _path != Path(__file__):
            exec(compile(_path.read_text(), str(_path), "exec"), {"__file__": str(_path)})
'''
_build_s_max: Final = 1200


class CopiedTree:
    """The files that git knows, new ones included, below `directory`."""

    def __init__(self, directory: Path, source: Path = ROOT) -> None:
        self.root = directory / "tree"
        self._built = directory / "built"
        said = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=source,
            capture_output=True,
            text=True,
            check=True,
        )
        for name in said.stdout.splitlines():
            if (source / name).is_file():
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source / name, self.root / name)
        (self.root / "sitecustomize.py").write_text(_SITE)
        self._module = self.root / "native" / f"_core{sysconfig.get_config_var('EXT_SUFFIX')}"
        spec = find_spec("native._core")
        assert spec is not None
        assert spec.origin is not None
        # What is installed may be built anew while this runs.
        self._original = directory / self._module.name
        shutil.copy2(spec.origin, self._original)
        self.restore_module()

    def restore_module(self) -> None:
        """The native module as it is installed, without any fault."""
        self._module.unlink(missing_ok=True)
        self._module.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(self._original, self._module)

    def build(self) -> bool:
        """Build the native module from the copy's sources; whether it could be."""
        if not (self._built / "build.ninja").exists() and not self._configure():
            return False
        made = self._run(["cmake", "--build", str(self._built)], _build_s_max)
        if made != 0:
            return False
        self._module.unlink()
        shutil.copy2(self._built / self._module.name, self._module)
        return True

    def _configure(self) -> bool:
        import nanobind

        return (
            self._run(
                [
                    "cmake",
                    *("-S", str(self.root / "native"), "-B", str(self._built), "-G", "Ninja"),
                    "-DCMAKE_BUILD_TYPE=Release",
                    f"-DPython_EXECUTABLE={sys.executable}",
                    f"-Dnanobind_DIR={nanobind.cmake_dir()}",
                ],
                _build_s_max,
            )
            == 0
        )

    def pytest(self, arguments: Sequence[str], seconds_max: float) -> int | None:
        """Run the copy's tests; pytest's exit status, None when they took too long."""
        return self._run(
            [sys.executable, "-m", "pytest", "--hypothesis-profile=planted", *arguments],
            seconds_max,
        )

    def _run(self, command: Sequence[str], seconds_max: float) -> int | None:
        """In a session of its own, so that nothing of it is left when it takes too long."""
        with subprocess.Popen(
            command,
            cwd=self.root,
            env={**os.environ, "PYTHONPATH": str(self.root), "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as process:
            try:
                return process.wait(seconds_max)
            except subprocess.TimeoutExpired:
                return None
            finally:
                if process.returncode is None:
                    os.killpg(process.pid, signal.SIGKILL)

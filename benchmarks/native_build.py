"""Builds the benchmarks' C++ programs when they are asked for.

Promises: what is returned was compiled from the source as it lies there now; nothing is built
twice.
"""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

SOURCES: Final = Path(__file__).parent / "native"
TARGET: Final = Path(__file__).parent.parent / "build" / "benchmarks"
FLAGS: Final = ("-O2", "-std=c++20", "-Wall", "-Wextra", "-Wconversion")


def program(name: str, *libraries: str) -> Path:
    """The path of one of them by its name, built if need be and linked with these libraries."""
    digest = hashlib.sha256(" ".join(FLAGS).encode())
    for source in sorted(SOURCES.glob("*pp")):
        digest.update(source.read_bytes())
    built = TARGET / f"{name}-{digest.hexdigest()[:16]}"
    if built.exists():
        return built
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None:
        raise FileNotFoundError("a C++20 compiler is needed: install g++ or set CXX")
    TARGET.mkdir(parents=True, exist_ok=True)
    partial = built.with_suffix(f".{os.getpid()}")
    command = [compiler, *FLAGS, "-o", str(partial), str(SOURCES / f"{name}.cpp")]
    command += [f"-l{library}" for library in libraries]
    subprocess.run(command, check=True)
    partial.replace(built)  # two builders may race: each leaves a whole program
    return built

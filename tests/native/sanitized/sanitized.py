"""Builds native sources, without Python, under sanitizers; knows every such program by name.

The C++ outside native/src/bindings includes no Python header, so the very files that make the
module are compiled here with checks that a module inside an interpreter could not have. Programs go
to `build/native` and are made again when a source, a header or the command changes.
"""

import hashlib
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent.parent.parent
SOURCES: Final = ROOT / "native" / "src"
HERE: Final = ROOT / "tests" / "native" / "sanitized"
OUTPUT: Final = ROOT / "build" / "native"

FUZZ: Final = ("-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all", "-O1")
ADDRESS: Final = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-O1")
THREAD: Final = ("-fsanitize=thread", "-O1")
# Not a sanitizer: another processor's code, whose compiler may order memory as x86 never would. It
# is run by qemu's user emulation, which shows what is wrong in the code, not all that is weak.
ARM: Final = ("-O2", "-static", "-march=armv8.3-a")

# A sanitizer's first finding ends the program; leaks count as findings.
ENVIRONMENT: Final = {
    "ASAN_OPTIONS": "abort_on_error=0:detect_leaks=1:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1",
}


class MissingCompilerError(Exception):
    """There is no clang++ here, whose sanitizers these are, or nothing for aarch64."""


@dataclass(frozen=True, slots=True)
class Program:
    """A source under tests/native and the product's sources it is linked with."""

    name: str
    parts: tuple[str, ...]
    flags: tuple[str, ...]
    source: str = ""  # the name, if empty
    libraries: tuple[str, ...] = ()


# What a spool is made of.
STORE: Final = (
    "base/checksum",
    "spool/file_writer",
    "spool/incoming",
    "spool/journal",
    "spool/journal_damage",
    "spool/journal_reached",
    "spool/journal_reader",
    "spool/journal_repair",
    "spool/journal_rewriter",
    "spool/journal_survivors",
    "spool/name_stock",
    "spool/ring",
    "spool/seal",
    "spool/segment_maker",
    "spool/spool",
    "spool/tag_scanner",
)
RECEPTION: Final = ("reception/pdu_cutter", "reception/reception", "reception/store_lane", *STORE)
TLS: Final = ("tls/server", "tls/session")
JPEG: Final = ("jpeg/entropy", "jpeg/header", "jpeg/lossless", "jpeg/predict")

PROGRAMS: Final = {
    program.name: program
    for program in (
        Program("tag_scanner_fuzz", ("spool/tag_scanner",), FUZZ),
        Program("checksum_fuzz", ("base/checksum",), FUZZ),
        Program("pdu_cutter_fuzz", ("reception/pdu_cutter", "reception/store_lane", *STORE), FUZZ),
        Program("store_lane_fuzz", ("reception/store_lane",), FUZZ),
        Program("journal_reader_fuzz", STORE, FUZZ),
        Program("seal_fuzz", ("base/checksum", "spool/seal"), FUZZ),
        Program("jpeg_lossless_fuzz", JPEG, FUZZ),
        Program("tls_session_fuzz", TLS, FUZZ, libraries=("ssl", "crypto")),
        Program("data_set_sender_fuzz", ("outgoing/data_set_sender",), FUZZ),
        Program(
            "frame_sender_fuzz", ("outgoing/frame_sender", "outgoing/data_set_sender", *JPEG), FUZZ
        ),
        Program("element_run_fuzz", ("outgoing/element_run",), FUZZ),
        Program("fragments_fuzz", ("outgoing/fragments",), FUZZ),
        Program("reception_stress_address", RECEPTION, ADDRESS, "reception_stress"),
        Program("reception_stress_thread", RECEPTION, THREAD, "reception_stress"),
        Program("spool_stress_address", STORE, ADDRESS, "spool_stress"),
        Program("spool_stress_thread", STORE, THREAD, "spool_stress"),
        Program("reception_stress_arm", RECEPTION, ARM, "reception_stress"),
        Program("spool_stress_arm", STORE, ARM, "spool_stress"),
    )
}


def fuzz_targets() -> list[str]:
    """The names of the fuzz targets."""
    return [name for name, program in PROGRAMS.items() if program.flags == FUZZ]


def emulator() -> list[str]:
    """What runs programs for aarch64 here."""
    for name in ("qemu-aarch64", "qemu-aarch64-static"):
        if found := shutil.which(name):
            return [found]
    raise MissingCompilerError("qemu-aarch64 is not installed (apt-get install qemu-user)")


def compiler(flags: tuple[str, ...] = ADDRESS) -> str:
    """The newest clang++ on the path; for aarch64 GCC's cross compiler."""
    if flags == ARM:
        if found := shutil.which("aarch64-linux-gnu-g++"):
            return found
        raise MissingCompilerError("no g++ for aarch64 (apt-get install g++-aarch64-linux-gnu)")
    names = ["clang++", *(f"clang++-{version}" for version in range(25, 13, -1))]
    for name in names:
        if found := shutil.which(name):
            return found
    raise MissingCompilerError("clang++ is not installed (Debian, Ubuntu: apt-get install clang)")


def build(name: str) -> Path:
    """The named program, compiled if need be. CalledProcessError carries the compiler's words."""
    program = PROGRAMS[name]
    command = [
        compiler(program.flags),
        *("-std=c++20", "-g", "-fno-omit-frame-pointer", "-Wall", "-Wextra", "-Wpedantic"),
        *("-Wshadow", "-Werror", "-pthread", *program.flags, f"-I{SOURCES}", f"-I{HERE}"),
    ]
    headers = b"".join(
        str(path).encode() + path.read_bytes()
        for path in [*sorted(SOURCES.rglob("*.hpp")), *sorted(HERE.glob("*.hpp"))]
    )
    state = repr(command).encode() + headers
    sources = [SOURCES / f"{part}.cpp" for part in program.parts]
    sources.append(HERE / f"{program.source or name}.cpp")
    OUTPUT.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(lambda source: _object(command, source, state), sources))
    binary = OUTPUT / name / _digest(*(path.name.encode() for path in objects))
    if not binary.exists():
        # One binary a program is enough; objects are shared between programs of the same flags.
        shutil.rmtree(binary.parent, ignore_errors=True)
        binary.parent.mkdir()
        libraries = [f"-l{library}" for library in program.libraries]
        _make([*command, *map(str, objects), *libraries], binary)
    return binary


def run(binary: Path, *arguments: str, timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Run a program under its sanitizers' options; output is captured, not checked."""
    emulated = emulator() if binary.parent.name.endswith("_arm") else []
    return subprocess.run(
        [*emulated, str(binary), *arguments],
        env=os.environ | ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=timeout_s,
        check=False,
    )


def _object(command: list[str], source: Path, state: bytes) -> Path:
    """The source compiled, under a name that says from what."""
    target = OUTPUT / f"{source.stem}-{_digest(state, source.read_bytes())}.o"
    if not target.exists():
        _make([*command, "-c", str(source)], target)
    return target


def _make(command: list[str], target: Path) -> None:
    """Run a compiler so that the target is there whole or not at all."""
    unfinished = target.with_name(f"{target.name}.{os.getpid()}")
    full = [*command, "-o", str(unfinished)]
    result = subprocess.run(full, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise subprocess.CalledProcessError(result.returncode, full, result.stdout, result.stderr)
    unfinished.rename(target)


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]

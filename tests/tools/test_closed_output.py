"""Who listens to a command may go: `scai find | head -1`, `scai find >&-`; nobody is scolded."""

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from engine.index.writer import IndexWriter
from engine.outbox.writer import OutboxWriter
from tests.rigs.index_entries import make_entry
from tests.rigs.outbox_deliveries import new
from tools.face.terminal import Exit

ROOT = Path(__file__).parents[2]
_COUNT = 600  # their lines are more than a pipe holds
COMMANDS = (
    ["find", "--level", "image", "--limit", str(_COUNT + 1)],
    ["find", "--level", "image", "--json"],
    ["queue", "--limit", str(_COUNT + 1)],
    ["queue", "--json"],
    ["config", "show"],
    ["verify"],
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("data")
    entries = [make_entry(f"1.4.{number}") for number in range(_COUNT)]
    with closing(IndexWriter(directory)) as writer:
        writer.commit(lambda batch: [batch.put_instance(entry) for entry in entries])
    with closing(OutboxWriter(directory)) as outbox:
        outbox.commit(lambda box: [box.enqueue(new(f"1.4.{n}"), 1) for n in range(_COUNT)])
    return directory


def shell(data: Path, line: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A line of the shell in which "$@" is the command."""
    command = [sys.executable, "-m", "tools.cli", *arguments]
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line, "bash", *command],
        cwd=ROOT,
        env={**os.environ, "SCAI_DATA": str(data)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_reader_that_takes_one_line(data: Path, arguments: list[str]) -> None:
    done = shell(data, '"$@" | head -1', *arguments)
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""
    assert done.returncode in (Exit.OK, Exit.NEGATIVE)


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_output_that_is_closed_from_the_start(
    data: Path, arguments: list[str], closed: str
) -> None:
    done = shell(data, f'"$@" {closed}', *arguments)
    assert done.returncode == (Exit.NEGATIVE if arguments == ["verify"] else Exit.OK), done.stderr
    assert done.stderr == ""
    with_output = shell(data, '"$@"', *arguments)
    assert with_output.stdout, "the data is as it was"

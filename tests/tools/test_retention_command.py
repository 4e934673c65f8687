"""`scai keep` and `scai retention` from their command lines to their exit codes."""

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from engine.errors import OperatorError
from tests.rigs.removals import RemovalBox
from tools.commands import keep as keep_command
from tools.commands import retention as retention_command
from tools.face.operators_log import orders
from tools.face.terminal import Exit

# Every disk is above it, and none is so small.
ALWAYS_FULL = 'high_watermark = "2 MiB"\nlow_watermark = "1 MiB"\nleast_age_days = 0\n'


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """1.2 and 1.4 were delivered, 1.3 was not."""
    (tmp_path / "scai.toml").write_text(
        f'data_directory = "{tmp_path}"\n[retention]\n{ALWAYS_FULL}'
    )
    box = RemovalBox(tmp_path)
    for study in ("1.2", "1.3", "1.4"):
        box.store(f"{study}.1", study=study)
    box.index()
    box.deliver("1.2.1", study="1.2")
    box.deliver("1.4.1", study="1.4")
    box.close()
    return tmp_path


def run(data: Path, command: click.Command, *arguments: str, said: str = "") -> Result:
    return CliRunner().invoke(
        command,
        arguments,
        said,
        env={"SCAI_CONFIG": str(data / "scai.toml")},
        standalone_mode=False,
    )


def keep(data: Path, *arguments: str) -> Result:
    return run(data, keep_command.command, *arguments)


def planned(data: Path, *arguments: str) -> list[dict[str, object]]:
    said = run(data, retention_command.command, "plan", "--json", *arguments)
    assert said.exception is None, said.output
    return [json.loads(line) for line in said.stdout.splitlines()]


def studies(data: Path) -> list[str]:
    box = RemovalBox(data)
    try:
        box.index()
        box.check()
        with box.reader.view() as view:
            return sorted(study.uid for _, study in view.studies())
    finally:
        box.close()


def test_the_plan_says_what_would_go_and_why_and_changes_nothing(data: Path) -> None:
    found = planned(data)
    assert [each["study"] for each in found] == ["1.2", "1.4"]
    assert {each["reason"] for each in found} == {"delivered, or with its archive"}
    said = run(data, retention_command.command, "plan")
    assert said.return_value == Exit.OK
    assert "1. study 1.2: 1 instances" in said.stdout
    assert "1 looked at would stay: it was never delivered" in said.stdout
    assert studies(data) == ["1.2", "1.3", "1.4"]


def test_nothing_is_planned_while_there_is_room(data: Path) -> None:
    large = f'high_watermark = "{999_999} TiB"\nlow_watermark = "1 MiB"\nleast_age_days = 0\n'
    (data / "scai.toml").write_text(f'data_directory = "{data}"\n[retention]\n{large}')
    said = run(data, retention_command.command, "plan")
    assert (said.return_value, "0.0 MiB are to be freed" in said.stdout) == (Exit.NEGATIVE, True)
    assert [each["study"] for each in planned(data, "--all")] == ["1.2", "1.4"]


def test_what_is_kept_is_not_planned_and_goes_when_it_is_let_go(data: Path) -> None:
    kept = keep(data, "--study", "1.2", "--who", "Ann", "--why", "teaching")
    assert (kept.return_value, kept.stdout) == (Exit.OK, "study 1.2 is kept\n")
    again = keep(data, "--study", "1.2", "--who", "Ann")
    assert (again.return_value, again.stdout) == (Exit.NEGATIVE, "study 1.2 is kept, as before\n")
    listed = keep(data)
    assert listed.stdout.startswith("study 1.2 is kept by Ann since 20")
    assert listed.stdout.endswith(" (teaching)\n")
    assert [each["study"] for each in planned(data)] == ["1.4"]
    ran = run(data, retention_command.command, "run", "--yes", "--who", "Ann")
    assert ran.return_value == Exit.OK, ran.output
    assert ran.stdout.startswith("removed 1 studies")
    assert studies(data) == ["1.2", "1.3"]
    assert keep(data, "--study", "1.2", "--no", "--who", "Ann").stdout == "study 1.2 may go\n"
    assert keep(data).return_value == Exit.NEGATIVE
    assert run(data, retention_command.command, "run", "--yes", "--who", "Ann").return_value == 0
    assert studies(data) == ["1.3"]
    assert [each["order"] for each in orders(data)] == ["keep", "retention", "let go", "retention"]


def test_nothing_goes_without_a_yes(data: Path) -> None:
    asked = run(data, retention_command.command, "run", "--who", "Ann", said="n\n")
    assert asked.return_value == Exit.NEGATIVE
    assert studies(data) == ["1.2", "1.3", "1.4"]


def test_what_is_not_here_cannot_be_kept(data: Path) -> None:
    asked = keep(data, "--study", "7.7", "--who", "Ann")
    assert isinstance(asked.exception, OperatorError)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ('high_watermark = "85 %"', "retention.low_watermark"),
        ('high_watermark = "75 %"\nlow_watermark = "85 %"', "is not below high_watermark"),
        ('high_watermark = "75 %"\nlow_watermark = "85 GiB"', "retention.low_watermark"),
        ('high_watermark = "much"', 'should be as "85 %" or "800 GiB"'),
        ('undelivered = "evict"', 'should be "keep" or as "evict after 90 days"'),
    ],
)
def test_settings_that_mean_nothing_are_refused(data: Path, settings: str, said: str) -> None:
    (data / "scai.toml").write_text(f"[retention]\n{settings}\n")
    refused = run(data, retention_command.command, "plan")
    assert said in str(refused.exception)

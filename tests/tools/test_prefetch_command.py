"""`scai prefetch`: what people and programs see of the jobs."""

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from engine.prefetch.hit_rate import HitRate
from engine.prefetch.jobs import Trigger
from engine.prefetch.records import Ask, JobState, StudyProgress
from engine.prefetch.store import PrefetchStore
from tools.commands.prefetch import command

SECOND = 1_000_000_000


def ran(directory: Path, *arguments: str) -> Result:
    config = directory / "scai.toml"
    config.write_text(f'data_directory = "{directory / "data"}"\n')
    return CliRunner().invoke(
        command, ["-c", str(config), *arguments], standalone_mode=False, catch_exceptions=False
    )


def filled(directory: Path) -> None:
    """Two jobs: one that is done, one that failed with words of a hostile archive."""
    store = PrefetchStore(directory / "data")
    for study in ("1.1", "1.2"):
        ask = Ask("pacs", "study", "47\x1b[31m11", "", "20200101-20240101", ("CT",), (), 3, study)
        trigger = Trigger("priors", ask, "1.9", "CT_1", 0, 0, 0)
        store.commit(lambda jobs, trigger=trigger: jobs.trigger(trigger, SECOND))
    done = store.commit(lambda jobs: jobs.begin(2 * SECOND))
    assert done is not None
    done.seconds = 1.25
    done.progress.studies = [StudyProgress("1.7", "20230101", 9, 4, 3, 2)]
    done.progress.missing = ["3.1", "3.2"]
    store.commit(lambda jobs: jobs.end(done, JobState.INCOMPLETE, 3 * SECOND, "2 did not arrive"))
    store.commit(lambda jobs: HitRate.within(jobs).note_used("1.7", 4 * SECOND))
    failed = store.commit(lambda jobs: jobs.begin(2 * SECOND))
    assert failed is not None
    store.commit(lambda jobs: jobs.end(failed, JobState.FAILED, 3 * SECOND, "A700 \x1b]0;x\x07"))
    store.close()


def test_without_jobs_the_answer_is_no(tmp_path: Path) -> None:
    result = ran(tmp_path)
    assert result.return_value == 1
    assert "no prefetch" in result.stderr


def test_the_table_has_what_was_asked_and_what_came(tmp_path: Path) -> None:
    filled(tmp_path)
    result = ran(tmp_path)
    assert result.return_value == 0
    assert "1 failed, 1 incomplete; 1 study fetched, 1 used (100 %)" in result.stdout
    row = next(line for line in result.stdout.splitlines()[1:] if line.lstrip().startswith("1 "))
    assert "pacs: 47\\x1b[31m11, 20200101-20240101" in result.stdout
    assert row.split()[:4] == ["1", "incomplete", "priors", "1.1"]
    assert row.split()[-9:] == ["1", "4", "3", "2", "1.2", "2", "did", "not", "arrive"]
    assert "\x1b" not in result.stdout
    assert "\x07" not in result.stdout


def test_json_has_every_number(tmp_path: Path) -> None:
    filled(tmp_path)
    lines = [json.loads(line) for line in ran(tmp_path, "--json").stdout.splitlines()]
    assert [line["number"] for line in lines] == [2, 1], "the latest first"
    assert lines[1]["missing_sop_instance_uids"] == ["3.1", "3.2"]
    assert lines[1]["studies"][0]["already_here"] == 4
    assert (lines[1]["found"], lines[1]["promised"], lines[1]["moved"]) == (1, 9, 3)
    (only,) = ran(tmp_path, "--json", "--state", "failed").stdout.splitlines()
    assert json.loads(only)["number"] == 2
    (first,) = ran(tmp_path, "--json", "--limit", "1").stdout.splitlines()
    assert json.loads(first)["number"] == 2
    assert len(ran(tmp_path, "--json", "--limit", str(2**70)).stdout.splitlines()) == 2
    with pytest.raises(click.BadParameter, match="is not in the range"):
        ran(tmp_path, "show", str(2**64))


def test_one_job_is_shown_whole(tmp_path: Path) -> None:
    filled(tmp_path)
    result = ran(tmp_path, "show", "1")
    assert result.return_value == 0
    assert "3.1" in result.stdout
    assert "3.2" in result.stdout
    assert ran(tmp_path, "show", "9").return_value == 1
    assert json.loads(ran(tmp_path, "show", "2", "--json").stdout)["state"] == "failed"
    assert "\x1b" not in ran(tmp_path, "show", "2").stdout

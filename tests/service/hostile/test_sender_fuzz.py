"""A few of the broken files of `python -m tests.service.hostile fuzz`: a data set or a reason."""

from pathlib import Path

import pytest

from tests.rigs.sender_fuzz import case, seeds, try_case

_ORIGINALS = seeds()


@pytest.mark.parametrize("hundred", range(3))
def test_whatever_a_file_says_there_is_a_data_set_or_a_reason(tmp_path: Path, hundred: int) -> None:
    for number in range(100 * hundred, 100 * hundred + 100):
        one = case(number, _ORIGINALS)
        found = try_case(one, tmp_path / "case.dcm")
        assert not found, f"case {number} ({', '.join(one.steps)}): {found}"

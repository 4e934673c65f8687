"""Tables in windows of every width: words never break, UIDs fold, and nothing is left out."""

from contextlib import redirect_stdout
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.face.tables import Column, Row, print_table

UID = "1.2.826.0.1.3680043.10.1338.2.123456789012345678901234567890.1"
COLUMNS = (
    Column("No.", right=True),
    Column("Destination"),
    Column("State"),
    Column("Queued", whole=True),
    Column("Reason"),
    Column("SOP Instance UID"),
)
REASON = "association rejected, permanent: called AE title not recognized"


def printed(
    capsys: pytest.CaptureFixture[str], columns: tuple[Column, ...], rows: list[Row], width: int
) -> list[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(width))
        print_table(columns, rows)
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("width", [80, 100, 160])
@pytest.mark.parametrize("reason", [REASON, "", "out of resources"])
def test_words_stay_whole_and_uids_fold(
    capsys: pytest.CaptureFixture[str], width: int, reason: str
) -> None:
    row = Row((17, "archive-of-the-house", "retrying", "2026-11-28 12:28:18Z", reason, UID))
    lines = printed(capsys, COLUMNS, [row, row], width)
    assert max(map(len, lines)) <= width
    words = {word for line in lines for word in line.split()}
    assert {"17", "archive-of-the-house", "retrying", *reason.split()} <= words
    assert any("2026-11-28 12:28:18Z" in line for line in lines), "whole columns are never broken"
    # In one piece, or folded within its column, which is the last.
    last = [line.split()[-1] for line in lines if line.strip()]
    pieces = [word for word in last if set(word) <= set("0123456789.")]
    assert UID in "".join(pieces)


def test_a_window_that_is_too_narrow_gets_a_line_for_each_value(
    capsys: pytest.CaptureFixture[str],
) -> None:
    row = Row((17, "archive-of-the-house", "retrying", "2026-11-28 12:28:18Z", REASON, UID))
    lines = printed(capsys, COLUMNS, [row, row], 60)
    assert max(map(len, lines)) <= 60
    assert [line[:11] for line in lines].count("Destination") == 2
    assert sum(not line.strip() for line in lines) == 1, "an empty line between the two"


def test_columns_with_nothing_in_them_yield_first(capsys: pytest.CaptureFixture[str]) -> None:
    columns = (Column("Name"), Column("Accession"), Column("Description"), Column("UID"))
    rows = [Row(("DOE^JANE", "", None, UID))]
    wide = printed(capsys, columns, rows, 120)
    assert wide[0].split() == ["Name", "Accession", "Description", "UID"]
    narrow = printed(capsys, columns, rows, 40)
    assert narrow[0].split() == ["Name", "UID"]
    assert "DOE^JANE" in narrow[1]


@given(
    st.lists(st.lists(st.text("ab .1", max_size=40), min_size=3, max_size=3), max_size=4),
    st.integers(20, 120),
)
def test_no_word_is_ever_broken(rows: list[list[str]], width: int) -> None:
    columns = (Column("one"), Column("two"), Column("three"))
    output = StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(output):
        patch.setenv("COLUMNS", str(width))
        print_table(columns, [Row(cells) for cells in rows])
    words = set(output.getvalue().split())
    for cells in rows:
        for word in " ".join(cells).split():
            # What may fold is long and of digits and points; a word longer than the window must.
            folds = (not set(word) - set("1.") and len(word) > 16) or len(word) > width - 7
            assert folds or word in words, (word, output.getvalue())


def test_what_has_no_window_is_not_broken(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("COLUMNS", raising=False)
        print_table(COLUMNS, [Row((1, "archive", "failed", "now", REASON, UID))])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert UID in lines[1]

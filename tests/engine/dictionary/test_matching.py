"""PS3.4 C.2.2.2 matching and the normal forms behind it."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.dictionary import matching
from engine.errors import OperatorError
from engine.index.keys import cut_key, lmdb_key
from tests.material.waiting import within


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("Buc^Jérôme", ("buc^jerome", "", "")),
        ("BUC^JEROME^^^", ("buc^jerome", "", "")),
        ("buc ^ Je\u0301ro\u0302me", ("buc^jerome", "", "")),
        ("ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう", ("ヤマダ^タロウ", "山田^太郎", "やまだ^たろう")),
        ("Müßig^A", ("mussig^a", "", "")),
        ("DOE^JOHN^^ ", ("doe^john", "", "")),
        ("＝Ｄｏｅ", ("=doe", "", "")),
        ("=山田", ("", "山田", "")),
        ("", ("", "", "")),
    ],
)
def test_names_are_folded_in_three_groups(name: str, groups: tuple[str, str, str]) -> None:
    assert matching.pn_groups(name) == groups


def test_voiced_kana_stay_apart() -> None:
    assert matching.strip_marks("だ") == "だ" != matching.strip_marks("た")


@pytest.mark.parametrize(
    ("vr", "pattern", "value", "matches"),
    [
        ("PN", "doe^john", "DOE^JOHN^^", True),
        ("PN", "doe", "DOE^JOHN", False),
        ("PN", "doe*", "DOE^JOHN", True),
        ("PN", "doe^*", "DOE", True),
        ("PN", "doe^*", "DOERING^A", False),
        ("PN", "*jér?me", "Buc^Jerome", True),
        ("PN", "山田*", "Yamada^Tarou=山田^太郎=やまだ^たろう", True),
        ("PN", "yamada*=山*", "Yamada^Tarou=山田^太郎", True),
        ("PN", "yamada*=海*", "Yamada^Tarou=山田^太郎", False),
        ("PN", "=山田^太郎", "Yamada^Tarou=山田^太郎", True),
        ("LO", "ab?d", "abcd", True),
        ("LO", "AB?D", "abcd", False),
        ("LO", "a.c", "abc", False),
        ("LO", "a*c*e", "abcde", True),
        ("SH", " 12 ", "12", True),
        ("CS", "CT\\MR", "MR", True),
        ("CS", "CT\\MR", "US", False),
        ("CS", "MR", "CT\\MR", True),
        ("UI", "1.2\\1.3", "1.3", True),
        ("UI", "1.2", "1.22", False),
        ("UI", "1.2*", "1.22", True),
        ("DA", "20240131", "2024.01.31", True),
        ("DA", "20240101-20240131", "20240131", True),
        ("DA", "20240101-", "20231231", False),
        ("DA", "-20240101", "20231231", True),
        ("DA", "-20240101", "", False),
        ("TM", "1030", "103059.5", True),
        ("TM", "1030", "1031", False),
        ("TM", "1030-1031", "103159", True),
        ("TM", "-12", "125959.999999", True),
        ("TM", "10-", "095959", False),
        ("TM", "-12", "", False),
        ("IS", "1", " 01", True),
        ("IS", "1", "x", False),
        ("US", "512", "512", True),
    ],
)
def test_matching(vr: str, pattern: str, value: str, matches: bool) -> None:
    match = matching.matcher(vr, pattern)
    assert match is not None
    assert match(value) is matches


@pytest.mark.parametrize("pattern", ["", " ", "*", "**"])
def test_universal_matching_needs_no_predicate(pattern: str) -> None:
    assert matching.matcher("LO", pattern) is None


@pytest.mark.parametrize(
    ("vr", "pattern"),
    [("DA", "2024"), ("DA", "yesterday"), ("DA", "-"), ("TM", "9"), ("TM", "-"), ("IS", "one")],
)
def test_an_operators_mistake_is_named(vr: str, pattern: str) -> None:
    with pytest.raises(OperatorError, match=r"is no"):
        matching.matcher(vr, pattern)


def test_a_hostile_pattern_does_not_take_for_ever() -> None:
    match = matching.matcher("LO", "*a" * 30 + "b")
    assert match is not None
    started = time.perf_counter()
    assert not match("a" * 400)
    assert time.perf_counter() - started < within(1)


@given(st.text(max_size=400), st.binary(max_size=4))
def test_keys_are_bounded_whole_and_distinct(text: str, prefix: bytes) -> None:
    key = lmdb_key(prefix, text)
    assert len(key) <= 511
    assert key.startswith(cut_key(prefix + text.encode("utf-8", "surrogatepass")))
    assert lmdb_key(prefix, text + "x") != key


def test_three_long_groups_fit() -> None:
    long = "=".join(("山" * 64, "太" * 64, "ア" * 64))
    assert len(long.encode()) == 578
    assert len(lmdb_key(b"n\0", long)) <= 511


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=8))
def test_wildcards_agree_with_the_shells(pattern: str, value: str) -> None:
    import fnmatch

    match = matching.matcher("LO", pattern) or (lambda _: True)
    expected = fnmatch.fnmatchcase(value, pattern) if pattern else True
    assert match(value) is expected

"""Routing rules: all that match apply, and everything a configuration may get wrong about them."""

from datetime import datetime

import pytest

from engine.config.loading import Rule, parse_config
from engine.dictionary.attributes import BY_TAG, MODALITY, SERIES_NUMBER
from engine.limits import rule_attributes_max
from engine.rules.conditions import Subject
from engine.rules.routing import Rules
from tests.rigs.configurations import only_problem, problems

_NOON = datetime(2024, 1, 31, 12)
_REMOTES = "".join(
    f'[[remotes]]\nname = "{name}"\nae_title = "{name.upper()}"\nhost = "{name}"\nport = 104\n'
    for name in ("archive", "viewer")
)


def subject(table: str = "storage_scp", **values: str) -> Subject:
    tags = {MODALITY: values.get("modality", "CT"), SERIES_NUMBER: values.get("number", "1")}
    return Subject(tags, "1.2.840.10008.5.1.4.1.1.2", "CT_1", "SCP_AE", table, _NOON)


def rule(name: str, to: str, **when: object) -> Rule:
    return Rule(name=name, to=tuple(to.split()), when=when)


def configured(*tables: str) -> str:
    return _REMOTES + "".join(f"[[rules]]\n{table}\n" for table in tables)


def test_all_rules_that_match_apply_and_a_destination_is_named_once() -> None:
    rules = Rules.compile(
        [
            rule("every", "archive"),
            rule("ct", "viewer archive", Modality="CT"),
            rule("mr", "third", Modality="MR"),
            rule("again", "viewer", SeriesNumber=1),
        ]
    )
    assert rules.destinations(subject()) == [("archive", "every"), ("viewer", "ct")]
    assert rules.destinations(subject(modality="MR", number="2")) == [
        ("archive", "every"),
        ("third", "mr"),
    ]
    assert rules.tags == {MODALITY, SERIES_NUMBER}
    assert rules.elements == {tag: BY_TAG[tag].vr for tag in rules.tags}


def test_what_was_fetched_goes_on_only_where_a_rule_says_so() -> None:
    rules = Rules.compile(
        [rule("every", "archive"), rule("priors", "viewer", receiving_ae="prefetch_scp")]
    )
    fetched = subject("prefetch_scp")
    assert rules.destinations(fetched) == [("viewer", "priors")]
    assert rules.destinations(subject()) == [("archive", "every")]
    every, priors = rules.explain(fetched)
    assert (every.matches, priors.matches) == (False, True)
    assert [(verdict.key, verdict.holds) for verdict in every.verdicts] == [("receiving_ae", False)]


def test_no_rules_send_nothing() -> None:
    rules = Rules.compile(())
    assert not rules
    assert rules.destinations(subject()) == []


def test_rules_of_a_file() -> None:
    config = parse_config(
        configured('name = "a"\nto = ["archive"]\nwhen.StudyDate = {from = 2024-01-31}')
    ).config
    (read,) = config.rules
    assert read == Rule(name="a", to=("archive",), when={"StudyDate": {"from": "20240131"}})


@pytest.mark.parametrize(
    ("tables", "problem"),
    [
        (['to = ["archive"]'], "rules[0].name: is missing; it is required"),
        (['name = "a"'], "rules[0].to: is missing; it is required"),
        (['name = "a"\nto = []'], "rules[0].to: must name one remote AE or more"),
        (
            ['name = "a"\nto = ["Archive"]'],
            "rules[0].to: 'Archive' is no remote AE; did you mean archive?; add it as [[remotes]]",
        ),
        (
            ['name = "a"\nto = ["archive"]', 'name = "A"\nto = ["archive"]'],
            "rules[1].name: 'A' is already the name of rules[0]",
        ),
        (
            ['name = "user"\nto = ["archive"]'],
            "rules[0].name: 'user' is what the queue calls what no rule asked for",
        ),
        (['name = "a"\nto = ["archive"]\nwhen = 1'], "rules[0].when = 1: must be a table"),
        (
            ['name = "a"\nto = ["archive"]\nwhen.Modalty = "CT"'],
            "line 14: rules[0].when.Modalty: is neither a keyword",
        ),
        (
            ['name = "a"\nto = ["archive"]\nwhen."(0008,0060)" = {from = 2, to = 1}'],
            "line 14: rules[0].when.'(0008,0060)': the range is reversed",
        ),
        (
            ['name = "a"\nto = ["archive"]\nwhen.KVP = {regex = "("}'],
            "rules[0].when.KVP: does not compile",
        ),
        (['name = "a"\nto = ["archive"]\nwho = 1'], "rules[0].who: unknown setting"),
    ],
)
def test_rules_that_mean_nothing_are_refused(tables: list[str], problem: str) -> None:
    assert problem in only_problem(configured(*tables))


def test_every_problem_of_every_rule_is_told() -> None:
    found = problems(
        configured(
            'name = "a"\nto = ["nowhere", "archive", "elsewhere"]\nwhen = {KVP = "x", time = 1}',
            'name = "b"\nto = ["viewer"]\nwhen = {Rows = {from = 2, to = 1}}',
        )
    )
    assert len(found) == 4
    assert "'nowhere' is no remote AE, 'elsewhere' is no remote AE" in found[0]


def test_extra_attributes_are_bounded() -> None:
    tags = [f'"(0019,{number:04x})" = 1' for number in range(0x1000, 0x1000 + rule_attributes_max)]
    table = f'name = "a"\nto = ["archive"]\nwhen = {{ {", ".join(tags)}, Modality = "CT" }}'
    assert problems(configured(table)) == []
    other = 'name = "b"\nto = ["archive"]\nwhen = { KVP = 120 }'
    assert "attributes that the index does not keep" in only_problem(configured(table, other))


def test_remote_settings() -> None:
    more = 'associations = "reuse"\npaused = true\noutgoing_directory = "out"\n'
    remote = parse_config(_REMOTES + more).config.remotes[1]
    assert (remote.associations, remote.paused) == ("reuse", True)
    first, second = _REMOTES.split("[[remotes]]\n")[1:]
    twice = f'[[remotes]]\n{first}outgoing_directory = "out"\n[[remotes]]\n{second}{more}'
    assert "is the folder of another remote AE" in only_problem(twice)
    assert "associations" in only_problem(_REMOTES + 'associations = "some"')

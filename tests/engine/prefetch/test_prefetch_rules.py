"""Prefetch rules: what triggers, what is asked, and what is refused before the service starts."""

from datetime import date, datetime

import pytest

from engine.config.loading import ConfigurationError, parse_config
from engine.dictionary import attributes
from engine.dimse.identifiers import QUERY_RETRIEVE_LEVEL
from engine.prefetch.plan import study_keys
from engine.prefetch.question import finds_of
from engine.prefetch.rules import PrefetchRules, period_before
from engine.rules.conditions import Subject
from engine.settings.prefetch import Prefetch
from tools.commands.prefetch_explained import question_lines
from tools.development.reference_prefetch import PREFETCHING

REMOTE = '[[remotes]]\nname = "pacs"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = 11112\n'


def subject(table: str = "storage_scp", **values: str) -> Subject:
    tags = {
        "patient_id": attributes.PATIENT_ID,
        "date": attributes.STUDY_DATE,
        "modality": attributes.MODALITY,
        "study": attributes.STUDY_INSTANCE_UID,
    }
    given = {"patient_id": "4711", "date": "20240229", "modality": "CT", "study": "1.0"} | values
    return Subject(
        {tags[name]: value for name, value in given.items()},
        "1.2.840.10008.5.1.4.1.1.2",
        "CT_1",
        "SCP_AE",
        table,
        datetime(2024, 6, 1, 12, 0),
    )


def rules(**settings: object) -> PrefetchRules:
    fields: dict[str, object] = {"name": "priors", "archive": "pacs", "when": {"Modality": "CT"}}
    return PrefetchRules([Prefetch(**{**fields, **settings})])  # type: ignore[arg-type]


def test_a_matching_instance_makes_a_question() -> None:
    compiled = rules(within="5 years", modalities=("CT", "MR"), at_most=3, level="series")
    (trigger,) = compiled.triggered(subject(), "3.1", "ISO_IR 100")
    ask = trigger.ask
    assert (ask.archive, ask.level, ask.patient_id, ask.at_most) == ("pacs", "series", "4711", 3)
    assert (ask.study_date, ask.modalities) == ("20190228-20240229", ("CT", "MR"))
    assert (ask.trigger_study_uid, trigger.sop_instance_uid, trigger.refusal) == ("1.0", "3.1", "")


def test_what_does_not_match_or_came_by_a_prefetch_triggers_nothing() -> None:
    assert not list(rules().triggered(subject(modality="MR"), "3.1", ""))
    assert not list(rules().triggered(subject("prefetch_scp"), "3.1", ""))
    assert list(rules().triggered(subject("secured_scp"), "3.1", ""))


@pytest.mark.parametrize("patient_id", ["", "  ", "47*", "4?11", "47\\12", "47\ufffd"])
def test_a_patient_id_that_an_archive_would_misread_is_refused(patient_id: str) -> None:
    (trigger,) = rules().triggered(subject(patient_id=patient_id), "3.1", "")
    assert "Patient ID" in trigger.refusal
    (explanation,) = rules().explain(subject(patient_id=patient_id))
    assert (explanation.matches, explanation.ask) == (True, None)
    (line,) = question_lines(explanation, "PrefetchAP")
    assert "nothing is asked: the" in line


def test_a_patient_id_goes_in_a_character_set_that_the_archive_takes() -> None:
    asked = subject(patient_id="김")
    (explanation,) = rules().explain(asked)
    assert (explanation.matches, explanation.ask) == (True, None)
    (line,) = question_lines(explanation, "PrefetchAP")
    assert "nothing is asked: the Patient ID cannot be said in" in line
    (explanation,) = rules().explain(asked, "", {"pacs": ("ISO_IR 192",), "other": ()})
    assert "    (0008,0005) SpecificCharacterSet = 'ISO_IR 192'" in question_lines(
        explanation, "PrefetchAP"
    )
    (explanation,) = rules().explain(asked, "ISO_IR 192")  # what it came in


def test_a_study_without_a_date_counts_as_todays() -> None:
    (trigger,) = rules(within="30 days").triggered(subject(date=""), "3.1", "")
    assert trigger.ask.study_date == "20240502-20240601"
    (trigger,) = rules().triggered(subject(), "3.1", "")
    assert trigger.ask.study_date == "", "without a period any day will do"


@pytest.mark.parametrize(
    ("period", "day", "first"),
    [
        ("1 day", date(2024, 3, 1), date(2024, 2, 29)),
        ("18 months", date(2024, 1, 31), date(2022, 7, 31)),
        ("1 month", date(2023, 3, 31), date(2023, 2, 28)),
        ("5 years", date(2024, 2, 29), date(2019, 2, 28)),
        ("9999 years", date(2024, 2, 29), date(1, 2, 28)),
        ("9999 days", date(20, 1, 1), date(1, 1, 1)),
    ],
)
def test_periods_end_in_days_that_there_are(period: str, day: date, first: date) -> None:
    assert period_before(period, day) == first


def test_the_question_is_explained_key_by_key() -> None:
    settings = {"within": "5 years", "modalities": ("CT", "MR"), "series_modalities": ("CT",)}
    compiled = rules(**settings, to=("ws", "ws"), level="series")
    (explanation,) = compiled.explain(subject(patient_id="MÜLLER"), "ISO_IR 100")
    assert explanation.matches
    text = "\n".join(question_lines(explanation, "OTHER_AP"))
    for line in (
        "C-FIND on STUDY level\n    (0008,0005)",
        "(0008,0052) QueryRetrieveLevel = 'STUDY'\n",
        "(0008,0005) SpecificCharacterSet = 'ISO_IR 100'",
        "(0008,0020) StudyDate = '20190228-20240229'  (range)",
        "(0008,0061) ModalitiesInStudy = 'CT\\\\MR'  (list)",
        "(0010,0020) PatientID = 'M\\xdcLLER'  (single value)",
        '(0020,000D) StudyInstanceUID = ""  (unique key, universal)',
        '(0008,0031) SeriesTime = ""  (universal)',
        '(0008,0018) SOPInstanceUID = ""  (unique key, universal)',
        "only series of CT",
        "moved to OTHER_AP by C-MOVE on series level: StudyInstanceUID, SeriesInstanceUID",
        "sent to ws",
    ):
        assert line in text
    assert text.isascii()
    (stays,) = rules().explain(subject())
    assert list(question_lines(stays, "PrefetchAP"))[-1] == "  it stays here"


def test_who_does_not_match_is_told_why_and_no_question() -> None:
    (unlike,) = rules().explain(subject(modality="MR"))
    assert (unlike.matches, unlike.ask, unlike.refusal) == (False, None, "")
    assert [verdict.holds for verdict in unlike.verdicts] == [False]
    (back,) = rules().explain(subject("prefetch_scp"))
    assert not back.matches
    assert [(it.key, it.holds) for it in back.verdicts] == [
        ("receiving_ae", False),
        ("Modality", True),
    ]
    assert not list(question_lines(unlike, "PrefetchAP"))


def test_the_question_is_the_one_that_would_be_sent() -> None:
    compiled = rules(within="5 years", modalities=("CT",), level="image")
    (explanation,) = compiled.explain(subject())
    (trigger,) = compiled.triggered(subject(), "3.1", "")
    assert explanation.ask == trigger.ask
    asked = {key.tag: key.value for key in finds_of(trigger.ask)[0].keys}
    assert asked.pop(QUERY_RETRIEVE_LEVEL) == "STUDY"
    assert asked == study_keys(trigger.ask)


def test_a_good_rule_is_read_with_its_defaults() -> None:
    text = REMOTE + '[[prefetch]]\nname = "priors"\narchive = "pacs"\nwithin = "18 months"\n'
    (rule,) = parse_config(text).config.prefetch
    assert (rule.level, rule.at_most, rule.quiet_s) == ("study", 5, 10)


def test_the_references_example_is_good() -> None:
    example = PREFETCHING.split("```toml\n")[1].split("```")[0]
    (rule,) = parse_config(example).config.prefetch
    assert (rule.archive, rule.to, rule.at_most) == ("archive", ("reading room",), 3)


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ('archive = "pasc"', "did you mean pacs"),
        ('archive = "pacs"\nwithin = "five years"', "number of days, months or years"),
        ('archive = "pacs"\nwithin = "0 days"', "number of days, months or years"),
        ('archive = "pacs"\nmodalities = ["ct"]', "no modality"),
        ('archive = "pacs"\nmodalities = ["C*"]', "no modality"),
        ('archive = "pacs"\nlevel = "patient"', "level"),
        ('archive = "pacs"\nat_most = 0', "at_most"),
        ('archive = "pacs"\nwhen = { Modalty = "CT" }', "did you mean Modality"),
        ("", "archive"),
        ('archive = "pacs"\nto = ["pasc"]', "did you mean pacs"),
        ('archive = "pacs"\nto = ["pacs"]', "the archive itself"),
        (
            'archive = "pacs"\n[[prefetch]]\nname = "PRIORS"\narchive = "pacs"',
            "already the name of prefetch[0]",
        ),
        ('archive = "pacs"\n[prefetch_scp]\nenabled = false', "prefetch_scp.enabled"),
    ],
)
def test_a_wrong_rule_is_refused_with_its_path(setting: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match="prefetch") as raised:
        parse_config(f'{REMOTE}[[prefetch]]\nname = "priors"\n{setting}\n')
    assert complaint in str(raised.value)

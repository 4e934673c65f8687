"""All commands say the same things by the same names: made from the tree of commands itself."""

from collections.abc import Iterator

import click
import pytest

from tools.cli import COMMANDS, scai

# Commands without --json, and why.
_WITHOUT_JSON: dict[str, str] = {}
# Options that name things: whatever ends in one of these words is called so, and nothing else.
_NAMES = {
    "study": "--study",
    "series": "--series",
    "instance": "--instance",
    "patient": "--patient",
    "issuer": "--issuer",
    "accession": "--accession",
    "modality": "--modality",
    "destination": "--to",
    "limit": "--limit",
    "state": "--state",
    "who": "--who",
    "data_directory": "--data-directory",
    "config_path": "--config",
    "as_json": "--json",
}
_SYNONYMS = {
    "study_uid": "study",
    "study_instance_uid": "study",
    "series_uid": "series",
    "sop_uid": "instance",
    "instance_uid": "instance",
    "sop_instance_uid": "instance",
    "patient_id": "patient",
    "accession_number": "accession",
    "remote": "destination",
    "state_name": "state",
    "user": "who",
    "json": "as_json",
    "config": "config_path",
    "max": "limit",
    "count": "limit",
}


def _walk(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, with its name."""
    if isinstance(command, click.Group):
        if command.invoke_without_command:
            yield path, command
        for name in command.list_commands(click.Context(command)):
            below = command.get_command(click.Context(command), name)
            assert below is not None
            yield from _walk(below, f"{path} {name}".strip())
    else:
        yield path, command


ALL = dict(_walk(scai, ""))


def _options(command: click.Command) -> Iterator[click.Option]:
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            yield parameter


def test_all_are_walked() -> None:
    assert {path.split()[0] for path in ALL} == set(COMMANDS)
    assert {"queue", "queue retry", "queue discard", "tls make-demo", "hl7 status"} <= set(ALL)


@pytest.mark.parametrize("path", ALL)
def test_every_command_answers_programs(path: str) -> None:
    names = {name for option in _options(ALL[path]) for name in option.opts}
    assert ("--json" in names) != (path in _WITHOUT_JSON), _WITHOUT_JSON.get(path, "lacks --json")


@pytest.mark.parametrize("path", ALL)
def test_things_have_one_name_each(path: str) -> None:
    for option in _options(ALL[path]):
        called = {name.lstrip("-").replace("-", "_") for name in (*option.opts, option.name or "")}
        for name in called & (_NAMES.keys() | _SYNONYMS.keys()):
            wanted = _NAMES[_SYNONYMS.get(name, name)]
            assert wanted in option.opts, f"scai {path}: {option.opts} should be {wanted}"


ASKING = [path for path, one in ALL.items() if any("--yes" in o.opts for o in _options(one))]
CHANGING = ["send", "export", "remove", "edit", "verify", "hl7 forget"]
CHANGING += [f"queue {name}" for name in ["retry", "hold", "release", "discard", "pause", "resume"]]


@pytest.mark.parametrize("path", sorted({*ASKING, *CHANGING}))
def test_what_changes_something_keeps_who_did_it(path: str) -> None:
    names = {name for option in _options(ALL[path]) for name in option.opts}
    assert "--who" in names


@pytest.mark.parametrize("path", ALL)
def test_every_option_is_explained_or_speaks_for_itself(path: str) -> None:
    for option in _options(ALL[path]):
        assert option.help or option.metavar or isinstance(option.type, click.Choice), option.opts


@pytest.mark.parametrize("path", ALL)
def test_every_command_takes_the_configuration_or_needs_none(path: str) -> None:
    names = {name for option in _options(ALL[path]) for name in option.opts}
    assert "--config" in names or path == "tls make-demo"

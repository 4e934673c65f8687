"""`scai rules` and `scai rules test FILE`: the rules there are, and what they make of a file.

Nothing is sent, nothing is asked of anybody, no data is touched: the configuration and the file are
all that is looked at. Values in the file are a patient's: they are shown to who has the file.
"""

import json
from collections.abc import Iterable
from datetime import datetime, time
from pathlib import Path
from typing import Any, Final

import click

from engine.config.loading import Config, Remote, Rule
from engine.dictionary.contexts import syntax_name
from engine.errors import OperatorError
from engine.outgoing.contexts import CannotSend, proposals, taken_by
from engine.prefetch.rules import Explanation as Prefetching
from engine.prefetch.rules import PrefetchRules
from engine.rules.conditions import RECEIVING_TABLES, Judgement, wanted_text
from engine.rules.routing import Explanation, Rules
from engine.rules.trial import Arriving, Trial, subject_in_file
from engine.settings.prefetch import Prefetch
from engine.settings.values import check_ae_title
from tools.commands import prefetch_explained
from tools.face.options import config_option, load
from tools.face.terminal import Exit, one_line, printable

_shown_characters_max: Final = 120


@click.group(name="rules", invoke_without_command=True)
@config_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each rule.")
@click.pass_context
def command(context: click.Context, config_path: Path | None, as_json: bool) -> None:
    """List the routing rules and the prefetch rules; with `test`, try them on a file."""
    if context.invoked_subcommand is not None:
        return
    config = load(config_path).config
    listed: tuple[Rule | Prefetch, ...] = (*config.rules, *config.prefetch)
    for rule in listed:
        if as_json:
            line = {"name": rule.name, "when": rule.when, "to": list(rule.to)}
            click.echo(json.dumps(line | _archive_of(rule)))
        else:
            click.echo(printable(f"{_title_text(rule)}\n{_conditions_text(rule)}"))
    if not config.rules:
        click.echo("no routing rules: what arrives is kept and sent to nobody", err=True)


def _archive_of(rule: Rule | Prefetch) -> dict[str, str]:
    return {"archive": rule.archive} if isinstance(rule, Prefetch) else {}


def _title_text(rule: Rule | Prefetch) -> str:
    asks = f"prefetch from {rule.archive}: " if isinstance(rule, Prefetch) else ""
    sends = f" -> {', '.join(rule.to)}" if rule.to else ""
    return f"{asks}{rule.name}{sends}"


def _conditions_text(rule: Rule | Prefetch) -> str:
    rows = [f"    {key} = {wanted_text(wanted)}" for key, wanted in rule.when.items()]
    return "\n".join(rows) or "    (everything that is received from outside)"


@command.command()
@click.argument("file", type=click.Path(path_type=Path))
@config_option
@click.option("--calling", metavar="AE", help="Calling AE title; else the one the file names.")
@click.option("--at", "moment", metavar="TIME", help='"18:30" or "2024-01-31 18:30"; else now.')
@click.option(
    "--receiving",
    type=click.Choice(RECEIVING_TABLES),
    default=RECEIVING_TABLES[0],
    show_default=True,
    help="The AE it is taken to arrive at.",
)
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
def test(
    file: Path,
    config_path: Path | None,
    calling: str | None,
    moment: str | None,
    receiving: str,
    as_json: bool,
) -> int:
    """Say which rules FILE matches, on which conditions others fail, what would be sent where, and
    which prior studies an archive would be asked for, key by key.

    Exit code 1 when it would be sent to nobody and nobody would be asked.
    """
    config = load(config_path).config
    rules, prefetches = Rules.compile(config.rules), PrefetchRules(config.prefetch)
    called = getattr(config, receiving).ae_title
    arriving = Arriving(_title(calling), called, receiving, _moment(moment))
    trial = subject_in_file(file, {**rules.elements, **prefetches.elements}, arriving)
    explanations = rules.explain(trial.subject)
    sendings = list(_sendings(config, rules, trial))
    spoken = {remote.name: remote.character_sets for remote in config.remotes}
    fetching = prefetches.explain(trial.subject, trial.character_set, spoken)
    destination = config.prefetch_scp.ae_title
    if as_json:
        told = _as_object(file, trial, explanations, sendings)
        told["prefetch"] = [prefetch_explained.fields_of(each, destination) for each in fetching]
        click.echo(json.dumps(told, indent=2))
    else:
        lines = [_arrival_text(file, trial), *map(_explanation_text, explanations)]
        lines += [_sendings_text(sendings)]
        for each in fetching:
            lines.append(_explanation_text(each))
            lines += prefetch_explained.question_lines(each, destination)
        click.echo(printable("\n".join(lines)))
    does_something = any(not sending["refused"] for sending in sendings) or any(
        each.ask is not None for each in fetching
    )
    return Exit.OK if does_something else Exit.NEGATIVE


def _title(calling: str | None) -> str:
    try:
        return "" if calling is None else check_ae_title(calling)
    except ValueError as problem:
        raise OperatorError(str(problem), "--calling") from problem


def _moment(text: str | None) -> datetime:
    """By this machine's clock, as the service would see it."""
    now = datetime.now()
    if text is None:
        return now
    try:
        if "-" not in text:
            return datetime.combine(now.date(), time.fromisoformat(text))
        return datetime.fromisoformat(text).replace(tzinfo=None)
    except ValueError as problem:
        raise OperatorError(
            f'{text!r} is no time; right would be "18:30" or "2024-01-31 18:30"', "--at"
        ) from problem


def _sendings(config: Config, rules: Rules, trial: Trial) -> Iterable[dict[str, Any]]:
    """What would be sent, a dictionary for each destination."""
    remotes = {remote.name: remote for remote in config.remotes}
    for name, rule in rules.destinations(trial.subject):
        yield {"to": name, "rule": rule, **_sending(remotes[name], trial)}


def _sending(remote: Remote, trial: Trial) -> dict[str, Any]:
    address = f"{remote.ae_title} at {remote.host}:{remote.port}"
    syntaxes: list[str] = []
    refused = ""
    try:
        offered = proposals(trial.head.sop_class, trial.head.transfer_syntax, taken_by(remote))
        syntaxes = [syntax for context in offered for syntax in context]
    except CannotSend as error:
        refused = error.reason
    return {
        "address": address,
        "tls": remote.tls,
        "paused": remote.paused,
        "transfer_syntaxes": syntaxes,
        "refused": refused,
    }


# --- for people ----------------------------------------------------------------------------------
def _arrival_text(file: Path, trial: Trial) -> str:
    subject = trial.subject
    return (
        f"{file}: {_named(trial.head.sop_class)}, {_named(trial.head.transfer_syntax)}\n"
        f'  as if "{one_line(subject.calling_ae_title)}" sent it to {subject.receiving_table} '
        f"at {subject.received:%Y-%m-%d %H:%M}"
    )


def _explanation_text(explanation: Explanation | Prefetching) -> str:
    says = "matches" if explanation.matches else "does not match"
    kind = "rule" if isinstance(explanation, Explanation) else "prefetch"
    rows = [f"{kind} {explanation.rule.name}: {says}"]
    return "\n".join([*rows, *map(_verdict_text, explanation.verdicts)])


def _verdict_text(verdict: Judgement) -> str:
    found = verdict.found
    if len(found) > _shown_characters_max:
        found = found[: _shown_characters_max - 3] + "..."
    has = "it is absent" if not found else f'it is "{found}"'
    mark = "yes" if verdict.holds else "NO "
    return one_line(f"  {mark}  {verdict.key} = {verdict.wanted}; {has}")


def _sendings_text(sendings: list[dict[str, Any]]) -> str:
    if not sendings:
        return "would be sent to nobody"
    rows = ["would be sent"]
    for sending in sendings:
        rows.append(f"  to {sending['to']} ({sending['address']}), by rule {sending['rule']}")
        if sending["refused"]:
            rows.append(f"    but cannot be sent: {sending['refused']}")
            continue
        first, *others = map(_named, sending["transfer_syntaxes"])
        rows.append(f"    as {first}" + (f", or else {' or '.join(others)}" if others else ""))
        if sending["tls"]:
            rows.append("    over TLS")
        if sending["paused"]:
            rows.append("    once it is no longer paused")
    return "\n".join(rows)


def _named(uid: str) -> str:
    name = syntax_name(uid)
    return f"{name} ({uid})" if name else uid


# --- for programs --------------------------------------------------------------------------------
def _as_object(
    file: Path,
    trial: Trial,
    explanations: list[Explanation],
    sendings: list[dict[str, Any]],
) -> dict[str, Any]:
    return {
        "file": str(file),
        "sop_class_uid": trial.head.sop_class,
        "transfer_syntax_uid": trial.head.transfer_syntax,
        "rules": [
            {
                "name": explanation.rule.name,
                "matches": explanation.matches,
                "conditions": [verdict._asdict() for verdict in explanation.verdicts],
            }
            for explanation in explanations
        ],
        "would_send": sendings,
    }

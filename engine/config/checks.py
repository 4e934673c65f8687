"""What must hold between settings: ports, names, addresses, and what this release cannot do yet.

Pure; called by engine/config/loading.py with a configuration whose single values were checked
already. A rule says which settings it looked at, so that it is not told of one that is wrong by
itself.
"""

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from engine.dictionary.elements import extra_tags
from engine.dictionary.suggestion import suggestion
from engine.limits import rule_attributes_max
from engine.rules.conditions import compile_conditions, faults_of
from engine.settings.entities import Remote, StorageAe
from engine.settings.prefetch import Prefetch
from engine.settings.retention import watermark_bytes
from engine.settings.send import FOLDER, USER, Rule
from engine.settings.settings import Config
from engine.settings.tls import PASSWORD_VARIABLES, store_of


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that does not hold: the setting to change, and the others that it is about."""

    path: str
    text: str
    others: tuple[str, ...] = ()


def findings(config: Config) -> Iterator[Finding]:
    """Every rule that does not hold."""
    yield from _check_services(config)
    yield from _check_ports(config)
    yield from _check_contexts(config)
    yield from _check_remotes(config)
    yield from _check_rules(config)
    yield from _check_prefetch(config)
    yield from _check_stats(config)
    yield from _check_tls(config)
    yield from _check_retention(config)


def _check_retention(config: Config) -> Iterator[Finding]:
    """Both watermarks or none, and the low one below the high one."""
    retention = config.retention
    high, low = retention.high_watermark, retention.low_watermark
    if bool(high) != bool(low):
        lacking = "low_watermark" if high else "high_watermark"
        yield Finding(
            f"retention.{lacking}", "is needed with the other one", ("retention.high_watermark",)
        )
    elif high and ("%" in high) != ("%" in low):
        yield Finding("retention.low_watermark", "is a share where the high one is a size, or so")
    elif high and watermark_bytes(low, 100) >= watermark_bytes(high, 100):
        yield Finding("retention.low_watermark", "is not below high_watermark")


_storage_tables: Final = ("storage_scp", "prefetch_scp", "secured_scp")


def _entities(config: Config) -> list[tuple[str, StorageAe]]:
    """Every storage AE with the table it stands in, enabled or not."""
    return [(table, getattr(config, table)) for table in _storage_tables]


def _check_services(config: Config) -> Iterator[Finding]:
    """Something must be served, and what is secured needs a key."""
    if config.secured_scp.enabled and not config.tls.key_store:
        yield Finding(
            "secured_scp.enabled",
            "needs tls.key_store: without a key and a certificate nothing is secured",
            ("tls.key_store",),
        )
    if config.hl7.enabled and config.hl7.tls and not config.tls.key_store:
        yield Finding(
            "hl7.tls",
            "needs tls.key_store: without a key and a certificate nothing is secured",
            ("tls.key_store", "hl7.enabled"),
        )
    if not any(entity.enabled for _, entity in _entities(config)):
        yield Finding(
            "storage_scp.enabled",
            "no AE is enabled, there is nothing to serve; enable it, prefetch_scp or secured_scp",
            ("prefetch_scp.enabled", "secured_scp.enabled"),
        )


def _check_ports(config: Config) -> Iterator[Finding]:
    """No two listeners on one port of one address, no two AEs of one name."""
    listeners = [
        (table, entity.address, entity.port)
        for table, entity in _entities(config)
        if entity.enabled
    ]
    if config.hl7.enabled:
        listeners.append(("hl7", config.hl7.address, config.hl7.port))
    if config.stats.enabled:
        listeners.append(("stats", config.stats.address, config.stats.port))
    for position, (table, address, port) in enumerate(listeners):
        for earlier, earlier_address, earlier_port in listeners[:position]:
            if port == earlier_port and _overlap(address, earlier_address):
                yield Finding(
                    f"{table}.port",
                    f"{port} is already the port of [{earlier}]; give each its own",
                    (f"{earlier}.port", f"{table}.address", f"{earlier}.address"),
                )
    storage, prefetch = config.storage_scp, config.prefetch_scp
    same = (storage.ae_title, storage.port) == (prefetch.ae_title, prefetch.port)
    if same and not _overlap(storage.address, prefetch.address):
        yield Finding(
            "prefetch_scp.ae_title",
            "the same AE title and port as [storage_scp], if on another address; change one, or "
            "nobody can tell them apart",
            ("storage_scp.ae_title", "storage_scp.port", "prefetch_scp.port"),
        )


def _overlap(one: str, other: str) -> bool:
    """Whether two listeners with the same port would meet. "::" takes IPv4 in on Linux."""
    if one == other or "" in (one, other) or "::" in (one, other):
        return True
    families = {ipaddress.ip_address(address).version for address in (one, other)}
    return families == {4} and "0.0.0.0" in (one, other)


def _check_contexts(config: Config) -> Iterator[Finding]:
    """Each AE accepts something, each SOP class is said once and has a transfer syntax."""
    for table, entity in _entities(config):
        if not entity.contexts:
            yield Finding(
                f"{table}.contexts",
                "an empty list accepts nothing; leave it out for the conformance statement's table",
            )
        if entity.abstract_syntaxes and not entity.transfer_syntaxes:
            yield Finding(
                f"{table}.transfer_syntaxes",
                "must name one transfer syntax or more for `abstract_syntaxes`",
                (f"{table}.abstract_syntaxes",),
            )
        seen: dict[str, int] = {}
        for index, context in enumerate(entity.contexts):
            path = f"{table}.contexts[{index}]"
            if not context.transfer_syntaxes:
                yield Finding(f"{path}.transfer_syntaxes", "must name one transfer syntax or more")
            if len(set(context.transfer_syntaxes)) < len(context.transfer_syntaxes):
                yield Finding(f"{path}.transfer_syntaxes", "names a transfer syntax twice")
            earlier = seen.setdefault(context.abstract_syntax, index)
            if earlier != index:
                yield Finding(
                    f"{path}.abstract_syntax",
                    f"{context.abstract_syntax} is already contexts[{earlier}]; join the two",
                    (f"{table}.contexts",),
                )


def _check_remotes(config: Config) -> Iterator[Finding]:
    """Names are how people and rules speak of remote AEs: each is unique."""
    yield from _check_names("remotes", config.remotes)
    for index, remote in enumerate(config.remotes):
        folder = remote.outgoing_directory
        if folder and folder in [other.outgoing_directory for other in config.remotes[:index]]:
            yield Finding(
                f"remotes[{index}].outgoing_directory",
                "is the folder of another remote AE too; nobody could say whom a file is for",
                ("remotes",),
            )
        missing = [name for name in ("key_store", "trust_store") if not getattr(config.tls, name)]
        if remote.tls and missing:
            yield Finding(
                f"remotes[{index}].tls",
                f"needs {' and '.join(f'tls.{name}' for name in missing)}",
                ("remotes", *(f"tls.{name}" for name in missing)),
            )


def _check_names(table: str, entries: Iterable[Remote | Rule | Prefetch]) -> Iterator[Finding]:
    """No two of a table are called the same."""
    seen: dict[str, int] = {}
    for index, entry in enumerate(entries):
        earlier = seen.setdefault(entry.name.casefold(), index)
        if earlier != index:
            yield Finding(
                f"{table}[{index}].name",
                f"{entry.name!r} is already the name of {table}[{earlier}]; names are unique, and "
                "case does not tell them apart",
                (table,),
            )


def _check_rules(config: Config) -> Iterator[Finding]:
    """Rules have names of their own, name remote AEs that there are, and can be understood."""
    yield from _check_names("rules", config.rules)
    for index, rule in enumerate(config.rules):
        path = f"rules[{index}]"
        yield from _check_rule_name(rule.name, path, "rules")
        if not rule.to:
            yield Finding(f"{path}.to", "must name one remote AE or more", ("rules",))
        yield from _check_destinations(rule.to, config.remotes, f"{path}.to", "rules")
        yield from _check_conditions(rule.when, f"{path}.when", "rules")
    yield from _check_rule_attributes(config)


def _check_destinations(
    to: Iterable[str], remotes: Sequence[Remote], path: str, table: str
) -> Iterator[Finding]:
    """Whoever is named is there; one whose name is wrong may be the one that is meant."""
    names = {remote.name for remote in remotes}
    unknown = [remote for remote in to if remote not in names]
    if unknown:
        named = ", ".join(f"{each!r} is no remote AE{suggestion(each, names)}" for each in unknown)
        others = (f"remotes[{index}].name" for index in range(len(remotes)))
        yield Finding(path, f"{named}; add it as [[remotes]]", (table, "remotes", *others))


def _check_conditions(when: Mapping[str, object], path: str, table: str) -> Iterator[Finding]:
    """They can be understood; what is wrong with one condition is told in one line."""
    texts: dict[str, list[str]] = {}
    for fault in faults_of(when, path):
        texts.setdefault(fault.where, []).append(fault.text)
    for place, found in texts.items():
        yield Finding(place, "; ".join(found), (path, table))


def _check_rule_name(name: str, path: str, table: str) -> Iterator[Finding]:
    """The queue tells by the name who asked for a delivery."""
    if name in (USER, FOLDER):
        yield Finding(
            f"{path}.name",
            f"{name!r} is what the queue calls what no rule asked for; take another name",
            (table,),
        )


def _check_prefetch(config: Config) -> Iterator[Finding]:
    """Prefetch rules have names of their own, name an archive that there is, and can be met."""
    yield from _check_names("prefetch", config.prefetch)
    for index, rule in enumerate(config.prefetch):
        path = f"prefetch[{index}]"
        yield from _check_destinations(rule.to, config.remotes, f"{path}.to", "prefetch")
        archive = (rule.archive,)
        yield from _check_destinations(archive, config.remotes, f"{path}.archive", "prefetch")
        if rule.archive in rule.to:
            yield Finding(
                f"{path}.to",
                f"names {rule.archive!r}, the archive itself: what comes from there is there",
                ("prefetch",),
            )
        yield from _check_conditions(rule.when, f"{path}.when", "prefetch")
    if config.prefetch and not config.prefetch_scp.enabled:
        yield Finding(
            "prefetch_scp.enabled",
            "must be true where there are prefetch rules: what is fetched arrives there",
            ("prefetch",),
        )


def _check_rule_attributes(config: Config) -> Iterator[Finding]:
    """What rules ask for beyond the index's own attributes is bounded: all of it is carried along
    with every instance."""
    tags: set[int] = set()
    tables = [rule.when for rule in config.rules] + [rule.when for rule in config.prefetch]
    for table in tables:
        if not faults_of(table, ""):
            tags |= compile_conditions(table, "").tags
    extra = len(extra_tags(tags))
    if extra > rule_attributes_max:
        yield Finding(
            "rules",
            f"ask for {extra} attributes that the index does not keep; at most "
            f"{rule_attributes_max} are possible",
        )


def _check_stats(config: Config) -> Iterator[Finding]:
    """Metrics leave the machine only if somebody said so."""
    address = config.stats.address
    remote = not address or not ipaddress.ip_address(address).is_loopback
    if config.stats.enabled and remote and not config.stats.allow_remote:
        yield Finding(
            "stats.address",
            f'"{address}" can be reached from other machines, without password or encryption; '
            'write "127.0.0.1", or set stats.allow_remote = true',
            ("stats.allow_remote",),
        )


def _check_tls(config: Config) -> Iterator[Finding]:
    """A password belongs to a store, and is said in one place."""
    for password in PASSWORD_VARIABLES:
        store = store_of(password)
        given = [name for name in (password, f"{password}_file") if getattr(config.tls, name)]
        if given and not getattr(config.tls, store):
            yield Finding(f"tls.{given[0]}", f"is set, but tls.{store} is not", (f"tls.{store}",))
        if len(given) > 1:
            yield Finding(
                f"tls.{password}_file",
                f"is set, and tls.{password} too; only one of them can hold",
                (f"tls.{password}",),
            )

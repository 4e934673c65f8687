"""What would be received and could never be sent, by name: no fault, but seldom meant.

Pure; `scai config check` tells it. Nothing is said where there is no remote AE: then nothing is
sent at all. Rules are not looked at, since what they let through is known of each instance only.
"""

from collections.abc import Iterator

from engine.dictionary import uids
from engine.dictionary.contexts import syntax_name
from engine.dictionary.sop_class_names import sop_class_name
from engine.outgoing.contexts import CannotSend, Taken, proposals, taken_by
from engine.settings.entities import StorageAe
from engine.settings.settings import Config


def never_sent(config: Config) -> Iterator[str]:
    """A line for all storage AEs that accept the same and could send it to no remote AE."""
    remotes = [taken_by(remote) for remote in config.remotes]
    if not remotes:
        return
    tables: dict[tuple[str, ...], list[str]] = {}
    for entity in config.storage_aes():
        found = tuple(_unsendable(entity.settings, remotes))
        tables.setdefault(found, []).append(entity.table)
    for found, named in tables.items():
        if found:
            yield (
                f"received ({', '.join(named)}), but never sent: {', '.join(found)}; "
                "`abstract_syntaxes` and `transfer_syntaxes` of [[remotes]] widen what is sent"
            )


def _unsendable(settings: StorageAe, remotes: list[Taken]) -> Iterator[str]:
    """SOP classes by name, with the transfer syntaxes where only some of them stay here."""
    for context in settings.accepted():
        uid, syntaxes = context.abstract_syntax, context.transfer_syntaxes
        if uid == uids.verification:
            continue
        stuck = [syntax for syntax in syntaxes if not _goes(uid, syntax, remotes)]
        if len(stuck) == len(syntaxes):
            yield sop_class_name(uid)
        elif stuck:
            names = " or ".join(syntax_name(syntax) or syntax for syntax in stuck)
            yield f"{sop_class_name(uid)} in {names}"


def _goes(uid: str, syntax: str, remotes: list[Taken]) -> bool:
    for taken in remotes:
        try:
            proposals(uid, syntax, taken)
        except CannotSend:
            continue
        return True
    return False

"""What is told of a peer that writes its command sets otherwise than the standard has them.

Once for each kind and association, by the receiver, the sender and the retriever alike: it is no
fault, but what whoever looks into a peer's trouble should know first.
"""

from collections.abc import Iterable
from typing import Any, Final

from engine.dimse.command_set import CommandOddity, oddity_fields
from engine.telemetry.metrics import Counter
from workers.frame.child import Child

ODD_COMMANDS: Final = {kind: Counter[f"ODD_COMMAND_{kind.name}"] for kind in CommandOddity}


def tell_odd_commands(
    child: Child[Any], oddities: Iterable[CommandOddity], destination: str
) -> None:
    """Count and log what was odd in the responses of a remote AE."""
    for oddity in sorted(oddities):
        child.counters.add(ODD_COMMANDS[oddity])
        child.log.info("command_odd", destination=destination, **oddity_fields(oddity))

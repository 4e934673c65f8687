"""What the operator has decided of messages, from the settings."""

from engine.hl7.instructions import Terms
from engine.settings.hl7 import Hl7


def terms_of(settings: Hl7, outgoing_sets: tuple[str, ...]) -> Terms:
    """For listener and commands alike; `outgoing_sets`: the character sets that every remote AE
    takes beyond the conformance statement's."""
    return Terms(
        settings.messages or Terms().messages,
        settings.senders,
        settings.local_authorities,
        settings.character_set,
        settings.accession_field,
        settings.acknowledge_others,
        outgoing_sets,
    )

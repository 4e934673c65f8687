"""What the operator has decided of messages, from the settings."""

from engine.hl7.instructions import Terms
from engine.settings.hl7 import Hl7


def terms_of(settings: Hl7) -> Terms:
    """For listener and commands alike."""
    return Terms(
        settings.messages or Terms().messages,
        settings.senders,
        settings.local_authorities,
        settings.character_set,
        settings.accession_field,
        settings.acknowledge_others,
    )

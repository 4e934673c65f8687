"""What would be received and could never be sent, named when the configuration is checked."""

import pytest

from engine.config.loading import parse_config
from engine.config.reach import never_sent

REMOTE = '[[remotes]]\nname = "pacs"\nae_title = "P"\nhost = "h"\nport = 104\n'
ALL = """
[storage_scp]
abstract_syntaxes = [{}]
transfer_syntaxes = [{}]
[prefetch_scp]
enabled = false
"""


def warnings(text: str) -> list[str]:
    """Without what to do about it."""
    return [line.split(": ", 1)[1].split(";")[0] for line in never_sent(parse_config(text).config)]


def test_enhanced_ct_is_named_until_it_is_sent() -> None:
    assert warnings(REMOTE) == ["Enhanced CT Image Storage"], "of both storage AEs"
    assert warnings(REMOTE + 'abstract_syntaxes = ["Enhanced CT"]') == []
    assert warnings(REMOTE + 'abstract_syntaxes = ["all-images"]') == []
    assert warnings(REMOTE + 'transfer_syntaxes = ["1.2.840.10008.1.2.1"]') == [
        "Enhanced CT Image Storage"
    ]
    assert warnings("") == [], "nothing is sent at all"


def test_one_remote_ae_that_takes_it_is_enough() -> None:
    other = REMOTE.replace("pacs", "archive") + 'abstract_syntaxes = ["Enhanced CT"]\n'
    assert warnings(REMOTE + other) == []


@pytest.mark.parametrize(
    ("received", "syntaxes", "sent", "named"),
    [
        ('"US"', '"1.2.840.10008.1.2"', '"Enhanced CT"',
         "Ultrasound Image Storage, Ultrasound Multi-frame Image Storage"),
        ('"US"', '"1.2.840.10008.1.2"', '"Enhanced CT", "US"', ""),
        ('"US"', '"1.2.840.10008.1.2", "1.2.840.10008.1.2.4.90"', '"Enhanced CT", "all-storage"',
         "Ultrasound Image Storage in JPEG 2000 Lossless, "
         "Ultrasound Multi-frame Image Storage in JPEG 2000 Lossless"),
        ('"1.2.3.4"', '"1.2.840.10008.1.2"', '"Enhanced CT"', "1.2.3.4"),
    ],
)  # fmt: skip
def test_what_is_named(received: str, syntaxes: str, sent: str, named: str) -> None:
    text = ALL.format(received, syntaxes) + REMOTE + f"abstract_syntaxes = [{sent}]"
    # Several are in the order of the dictionary.
    assert warnings(text) == ([named] if named else [])

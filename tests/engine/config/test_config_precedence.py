"""Which of two sources of a setting counts, and rules of destinations that name nobody or two."""

import pytest

from engine.config.loading import ConfigurationError, parse_config

REMOTE = """
[[remotes]]
name = "{name}"
ae_title = "A"
host = "h"
port = 1
outgoing_directory = "{folder}"
"""


def test_a_password_in_the_file_outranks_the_environment() -> None:
    environment = {"SCAI_TLS_KEY_STORE_PASSWORD": "of the environment"}
    table = '[tls]\nkey_store = "/k.p12"\n'
    assert (
        parse_config(table, environment=environment).config.tls.key_store_password
        == "of the environment"
    )
    written = f'{table}key_store_password = "of the file"\n'
    loaded = parse_config(written, environment=environment)
    assert loaded.config.tls.key_store_password == "of the file"
    in_a_file = f'{table}key_store_password_file = "/password"\n'
    loaded = parse_config(in_a_file, environment=environment)
    assert loaded.config.tls.key_store_password == ""


def test_a_folder_belongs_to_one_remote() -> None:
    two = REMOTE.format(name="a", folder="/x") + REMOTE.format(name="b", folder="/x")
    with pytest.raises(ConfigurationError, match="is the folder of another remote AE too"):
        parse_config(two)
    parse_config(REMOTE.format(name="a", folder="/x") + REMOTE.format(name="b", folder="/y"))


def test_a_rule_sends_to_somebody() -> None:
    rule = '[[rules]]\nname = "a"\nto = []\nwhen = {Modality = "CT"}\n'
    with pytest.raises(ConfigurationError, match="must name one remote AE or more"):
        parse_config(rule)

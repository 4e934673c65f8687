"""The settings of TLS: stores that belong together, paths, and passwords from everywhere."""

from pathlib import PurePath

import pytest

from engine.config.loading import ConfigurationError, parse_config
from tests.rigs.configurations import only_problem, problems


def test_a_remote_with_tls_needs_both_stores() -> None:
    remote = '\n[[remotes]]\nname = "a"\nae_title = "A"\nhost = "h"\nport = 1\ntls = true'
    assert "remotes[0].tls: needs tls.key_store and tls.trust_store" in only_problem(remote)
    assert "remotes[0].tls: needs tls.trust_store" in only_problem('tls.key_store = "k"' + remote)
    assert problems('tls.key_store = "k"\ntls.trust_store = "t"' + remote) == []


def test_a_password_is_said_in_one_place() -> None:
    text = 'tls.key_store = "k"\ntls.key_store_password = "a"\ntls.key_store_password_file = "b"'
    assert "tls.key_store_password_file: is set, and" in only_problem(text)


def test_passwords_come_from_the_environment_unless_the_file_has_them() -> None:
    environment = {"SCAI_TLS_KEY_STORE_PASSWORD": "outside", "SCAI_TLS_TRUST_STORE_PASSWORD": "x"}

    def password(text: str) -> tuple[str, str, str]:
        loaded = parse_config(text, environment=environment)
        tls = loaded.config.tls
        origin = loaded.origin("tls.key_store_password").source
        return tls.key_store_password, tls.trust_store_password, origin

    store = 'tls.key_store = "k"\n'
    assert password("") == ("", "", "default")
    assert password(store) == ("outside", "", "environment")
    assert password(store + 'tls.key_store_password = "inside"') == ("inside", "", "file")
    assert password(store + 'tls.key_store_password_file = "f"') == ("", "", "default")
    environment["SCAI_TLS_KEY_STORE_PASSWORD"] = "geheim-ü"
    with pytest.raises(ConfigurationError) as refused:
        parse_config(store, environment=environment)
    assert "$SCAI_TLS_KEY_STORE_PASSWORD = (not shown)" in str(refused.value)
    assert "geheim" not in str(refused.value)


def test_stores_are_found_from_the_configuration_file() -> None:
    text = 'tls.key_store = "keys.p12"\ntls.trust_store = "/etc/trust.p12"'
    tls = parse_config(text, base_directory=PurePath("/etc/scai")).config.tls
    assert (tls.key_store, tls.trust_store) == ("/etc/scai/keys.p12", "/etc/trust.p12")

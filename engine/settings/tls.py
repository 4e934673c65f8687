"""The settings of TLS: profile, key store, trust store, their passwords, and who must show a
certificate. One table serves the secured listener and the connections to remote AEs alike.

A password stands in the file, in a file of its own, or in the environment (engine/config/loading.py
puts it in from there); engine/tls/material.py reads the stores.
"""

from typing import Annotated, Final, Literal

from msgspec import Struct

from engine.settings.entities import setting

# Setting -> the variable that is used when the configuration file has neither it nor its file.
PASSWORD_VARIABLES: Final = {
    "key_store_password": "SCAI_TLS_KEY_STORE_PASSWORD",
    "key_password": "SCAI_TLS_KEY_PASSWORD",
    "trust_store_password": "SCAI_TLS_TRUST_STORE_PASSWORD",
}
# A relative path counts from the configuration file's directory, as the data directory's does.
TLS_PATHS: Final = (
    "key_store",
    "key_store_password_file",
    "key_password_file",
    "trust_store",
    "trust_store_password_file",
)


class Tls(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys, trust and profile of secured connections."""

    profile: Annotated[
        Literal["bcp195", "non-downgrading", "extended"],
        setting("Secure transport connection profile.", "", "7.1-1, 8.6-1"),
    ] = "bcp195"
    key_store: Annotated[
        str,
        setting(
            "Our key and certificate: PKCS#12 or JKS file. A relative path counts from the "
            "configuration file's directory, here and below.",
            "path_or_nothing",
        ),
    ] = ""
    key_store_password: Annotated[
        str,
        setting(
            "Its password; never shown. Better in `key_store_password_file` or "
            f"`${PASSWORD_VARIABLES['key_store_password']}`.",
            "password",
            secret=True,
        ),
    ] = ""
    key_store_password_file: Annotated[
        str, setting("File whose first line is that password.", "path_or_nothing")
    ] = ""
    key_store_alias: Annotated[
        str, setting("Which entry, if there are several; case does not count. Empty: the only one.")
    ] = ""
    key_password: Annotated[
        str,
        setting(
            "Password of the key itself where a JKS file has another one for it; never shown. "
            f"Or in `${PASSWORD_VARIABLES['key_password']}`.",
            "password",
            secret=True,
        ),
    ] = ""
    key_password_file: Annotated[
        str, setting("File whose first line is that password.", "path_or_nothing")
    ] = ""
    trust_store: Annotated[
        str,
        setting(
            "Certificates we trust: PKCS#12, JKS or PEM file, without any key in it.",
            "path_or_nothing",
        ),
    ] = ""
    trust_store_password: Annotated[
        str,
        setting(
            f"Its password; never shown. Or in `${PASSWORD_VARIABLES['trust_store_password']}`.",
            "password",
            secret=True,
        ),
    ] = ""
    trust_store_password_file: Annotated[
        str, setting("File whose first line is that password.", "path_or_nothing")
    ] = ""
    client_authentication: Annotated[
        Literal["need", "want", "none"],
        setting(
            'Whether a peer that connects must show a certificate we trust. `"want"`: it may, and '
            "one that we do not trust is refused."
        ),
    ] = "need"

    def __repr__(self) -> str:
        """Without the passwords: a struct's text may end up in a log."""
        return f"Tls(profile={self.profile!r}, key_store={self.key_store!r}, ...)"


def store_of(password: str) -> str:
    """The setting of the store that a password is for."""
    return "trust_store" if password == "trust_store_password" else "key_store"

"""What TLS is made of: key, chain, trust and profile, read from the stores and found good.

load_material() is called wherever something is secured: by the supervisor at start and at a
reload, and by the commands. It refuses, with a reason each, everything that peers would refuse
without saying why. The key is in memory only, and in nobody's text: it has no repr.
"""

import stat
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from msgspec import Struct

from engine.errors import OperatorError
from engine.limits import certificate_expiry_warning_days, tls_password_bytes_max
from engine.settings.settings import Config
from engine.settings.tls import PASSWORD_VARIABLES, Tls
from engine.settings.values import check_password
from engine.tls.chain import Purpose, check_chain, check_key, name_of, ordered_chain
from engine.tls.profiles import PROFILES, Profile
from engine.tls.stores import KeyEntry, read_key_store, read_store, read_trust_store
from native import _core

_warning: Final = timedelta(days=certificate_expiry_warning_days)


class TlsMaterial(Struct, frozen=True):
    """Everything a context is made of. It can be sent to another process (msgspec encodes it), by
    ways that leave no trace: it holds the private key."""

    key: bytes  # PKCS#8, DER, not enciphered: never to be written anywhere
    chain: tuple[bytes, ...]  # DER: our certificate, then its issuers, without the root
    trust: tuple[bytes, ...]  # DER
    not_after: datetime  # the earliest end in the chain
    profile: Profile
    client_authentication: Literal["need", "want", "none"]
    warnings: tuple[str, ...]  # what is still good and soon will not be, in words for a log

    def wipe(self) -> None:
        """Overwrite the key: this material serves nobody any more."""
        _core.wipe(self.key)

    def __repr__(self) -> str:
        """Without the key."""
        return f"TlsMaterial(profile={self.profile.name!r}, not_after={self.not_after}, ...)"


def purposes_of(config: Config) -> frozenset[Purpose]:
    """What a configuration uses TLS for; empty: for nothing."""
    found = {Purpose.LISTENER} if config.secured_scp.enabled else set()
    if config.hl7.enabled and config.hl7.tls:
        found.add(Purpose.LISTENER)
    if any(remote.tls for remote in config.remotes):
        found.add(Purpose.REMOTES)
    return frozenset(found)


def material_of(config: Config, now: datetime | None = None) -> TlsMaterial | None:
    """The material of what a configuration secures; None: nothing is secured, nothing is read."""
    purposes = purposes_of(config)
    return load_material(config.tls, now, purposes) if purposes else None


def load_material(
    settings: Tls, now: datetime | None = None, purposes: Collection[Purpose] = ()
) -> TlsMaterial:
    """Read the stores and check them for these purposes, at `now` (by default the clock's).

    OperatorError: something is missing, unreadable, expired, too weak or does not fit.
    """
    now = now or datetime.now(UTC)
    warnings: list[str] = []
    try:
        entry = _key_entry(settings, warnings)
    except OperatorError as fault:
        try:
            _trusted(settings, purposes, warnings)
        except OperatorError as another:  # both, so that one round mends both
            raise OperatorError(f"{fault.text}; {another}", fault.where) from fault
        raise
    trust = _trusted(settings, purposes, warnings)
    where = _where("key_store", settings)
    key = check_key(entry, where)
    chain = ordered_chain(entry, trust, where)
    check_chain(chain, now, purposes, where)
    for certificate in chain:
        _warn_of_end(certificate, now, "certificate", warnings)
    _check_trust(trust, now, _where("trust_store", settings), warnings)
    return TlsMaterial(
        key=_encoded(key),
        chain=tuple(map(_der, chain)),
        trust=tuple(dict.fromkeys(map(_der, trust))),
        not_after=min(certificate.not_valid_after_utc for certificate in chain),
        profile=PROFILES[settings.profile],
        client_authentication=settings.client_authentication,
        warnings=tuple(warnings),
    )


def _key_entry(settings: Tls, warnings: list[str]) -> KeyEntry:
    where = _where("key_store", settings)
    if not settings.key_store:
        raise OperatorError("TLS needs a key store with our key and certificate", where)
    content = read_store(Path(settings.key_store), where)
    password = _password("key_store_password", settings, warnings)
    if not password:
        raise OperatorError(
            "TLS needs its password, so that the key lies nowhere in the clear; set it, "
            "tls.key_store_password_file, or "
            f"${PASSWORD_VARIABLES['key_store_password']}",
            "tls.key_store_password",
        )
    key_password = _password("key_password", settings, warnings) or password
    return read_key_store(content, password, key_password, settings.key_store_alias, where)


def _trusted(
    settings: Tls, purposes: Collection[Purpose], warnings: list[str]
) -> tuple[x509.Certificate, ...]:
    where = _where("trust_store", settings)
    if settings.trust_store:
        content = read_store(Path(settings.trust_store), where)
        password = _password("trust_store_password", settings, warnings)
        return read_trust_store(content, password, where)
    if Purpose.REMOTES in purposes:
        raise OperatorError("remote AEs with TLS need a trust store to be known by", where)
    if settings.client_authentication != "none":
        raise OperatorError(
            "peers that connect are known by a trust store; set it, or "
            'tls.client_authentication = "none" if anybody may connect',
            where,
        )
    return ()


def _where(setting: str, settings: Tls) -> str:
    path = getattr(settings, setting)
    return f"tls.{setting} {path}" if path else f"tls.{setting}"


def _password(setting: str, settings: Tls, warnings: list[str]) -> str:
    """The password itself, wherever it stands; empty: nowhere."""
    given = getattr(settings, setting)
    path = getattr(settings, f"{setting}_file")
    if given or not path:
        return str(given)
    where = _where(f"{setting}_file", settings)
    try:
        with open(path, "rb") as file:
            content = file.read(tls_password_bytes_max + 1)
            mode = stat.S_IMODE(Path(path).stat().st_mode)
    except OSError as error:
        raise OperatorError(f"cannot be read: {error.strerror}", where) from error
    if len(content) > tls_password_bytes_max:
        raise OperatorError(f"is longer than {tls_password_bytes_max} bytes", where)
    line = content.partition(b"\n")[0].removesuffix(b"\r")
    if not line:
        raise OperatorError("its first line must be the password, and is empty", where)
    if mode & stat.S_IROTH:
        warnings.append(f"{where}: can be read by every user of this machine; chmod o-r")
    try:
        return check_password(line.decode("latin-1"))
    except ValueError as problem:
        raise OperatorError(f"its first line {problem}", where) from problem


def _check_trust(
    trust: tuple[x509.Certificate, ...], now: datetime, where: str, warnings: list[str]
) -> None:
    """One certificate that has expired trusts nobody and harms nobody; if all have, say so."""
    if trust and all(certificate.not_valid_after_utc <= now for certificate in trust):
        raise OperatorError("every certificate in it has expired: nobody would be trusted", where)
    for certificate in trust:
        _warn_of_end(certificate, now, "trusted certificate", warnings)


def _warn_of_end(
    certificate: x509.Certificate, now: datetime, what: str, warnings: list[str]
) -> None:
    end = certificate.not_valid_after_utc
    if end <= now + _warning:
        verb = "expires" if end > now else "has expired"
        warnings.append(f"{what} {name_of(certificate)} {verb} on {end:%Y-%m-%d %H:%M} UTC")


def _encoded(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)

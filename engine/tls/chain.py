"""Our own key and certificates put in order and judged: what a strict peer would refuse is refused
here first, with words.

Pure: certificates come in, an OperatorError or nothing comes out. Peers' certificates are OpenSSL's
to judge, by the same bounds (engine/limits.py).
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from enum import Enum
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from engine.errors import OperatorError
from engine.limits import tls_chain_certificates_max, tls_rsa_bits_min
from engine.tls.stores import KeyEntry


class Purpose(Enum):
    """What our certificate must be good for; the value names it in messages."""

    LISTENER = "serverAuth"
    REMOTES = "clientAuth"


_usages: Final = {
    Purpose.LISTENER: ExtendedKeyUsageOID.SERVER_AUTH,
    Purpose.REMOTES: ExtendedKeyUsageOID.CLIENT_AUTH,
}


def check_key(entry: KeyEntry, where: str) -> rsa.RSAPrivateKey:
    """An RSA key long enough whose certificate is its own."""
    key = entry.key
    if not isinstance(key, rsa.RSAPrivateKey):
        kind = type(key).__name__.removesuffix("PrivateKey").strip("_")
        raise OperatorError(
            f"its key is of type {kind}; every suite of the profiles is signed with RSA, so it "
            "must be an RSA key",
            where,
        )
    if key.key_size < tls_rsa_bits_min:
        raise OperatorError(
            f"its RSA key has {key.key_size} bits, at least {tls_rsa_bits_min} are needed", where
        )
    if _spki(entry.certificate, where) != key.public_key().public_numbers():
        raise OperatorError("its certificate is not that of its key", where)
    return key


def ordered_chain(
    entry: KeyEntry, trust: Sequence[x509.Certificate], where: str
) -> list[x509.Certificate]:
    """Our certificate, then each one's issuer, without the root: what the peer is sent.

    Issuers are looked for in the key store, then among what we trust. The chain may end below a
    certificate that we trust, whatever it is; otherwise it is incomplete, and peers that know
    only the root could not follow it.
    """
    chain = [entry.certificate]
    while not is_self_signed(chain[-1]):
        last = chain[-1]
        issuer = next((c for c in (*entry.others, *trust) if is_issued_by(last, c)), None)
        if issuer is None:
            if last in trust:
                return chain
            raise OperatorError(
                f"its chain is incomplete: the issuer of {name_of(last)}, "
                f"{_text_of(last.issuer)}, is neither in the key store nor in the trust store; "
                "put it into the key store",
                where,
            )
        if len(chain) == tls_chain_certificates_max:
            raise OperatorError(
                f"its chain has more than {tls_chain_certificates_max} certificates", where
            )
        chain.append(issuer)
    return chain if len(chain) == 1 else chain[:-1]


def check_chain(
    chain: Sequence[x509.Certificate],
    now: datetime,
    purposes: Collection[Purpose],
    where: str,
) -> None:
    """Every certificate that is sent is valid now and strong enough, ours fit for its purposes."""
    for certificate in chain:
        name = name_of(certificate)
        if certificate.not_valid_after_utc <= now:
            end = certificate.not_valid_after_utc
            raise OperatorError(f"the certificate {name} expired on {_time(end)}", where)
        if certificate.not_valid_before_utc > now:
            begin = certificate.not_valid_before_utc
            raise OperatorError(
                f"the certificate {name} is valid from {_time(begin)} on; is this machine's clock "
                "right?",
                where,
            )
        _check_strength(certificate, name, where)
    _check_usage(chain[0], purposes, where)


def is_self_signed(certificate: x509.Certificate) -> bool:
    """Whether nobody stands above it."""
    return is_issued_by(certificate, certificate)


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """By name and by signature: two authorities of one name are told apart. A signature of a kind
    too old to be checked (an authority's of 2010, by SHA-1) is taken by its name."""
    if certificate.issuer != issuer.subject:
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, TypeError):
        return False
    except (ValueError, UnsupportedAlgorithm):
        return True
    return True


def name_of(certificate: x509.Certificate) -> str:
    """Its subject, as people read it."""
    return _text_of(certificate.subject) or f"number {certificate.serial_number:x}"


def _text_of(name: x509.Name) -> str:
    return name.rfc4514_string()


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _spki(certificate: x509.Certificate, where: str) -> rsa.RSAPublicNumbers | None:
    """The public key of a certificate, if it is an RSA one."""
    try:
        public = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise OperatorError(f"its certificate has an unknown key: {error}", where) from error
    return public.public_numbers() if isinstance(public, rsa.RSAPublicKey) else None


def _check_strength(certificate: x509.Certificate, name: str, where: str) -> None:
    """As OpenSSL does at security level 2, which peers may have as well."""
    public = _spki(certificate, where)
    if public is not None and public.n.bit_length() < tls_rsa_bits_min:
        raise OperatorError(
            f"the certificate {name} has an RSA key of {public.n.bit_length()} bits, at least "
            f"{tls_rsa_bits_min} are needed",
            where,
        )
    try:
        hashed = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm as error:
        raise OperatorError(f"the certificate {name}: {error}", where) from error
    if isinstance(hashed, hashes.SHA1 | hashes.MD5) and not is_self_signed(certificate):
        raise OperatorError(
            f"the certificate {name} is signed with {hashed.name.upper()}, which peers refuse; "
            "it must be SHA-256 or stronger",
            where,
        )


def _check_usage(certificate: x509.Certificate, purposes: Collection[Purpose], where: str) -> None:
    """A certificate without such an extension is good for everything."""
    name = name_of(certificate)
    try:
        extensions = certificate.extensions
    except ValueError as error:
        raise OperatorError(f"the certificate {name} is broken: {error}", where) from error
    for extension in extensions:
        value = extension.value
        if isinstance(value, x509.KeyUsage) and not value.digital_signature:
            raise OperatorError(
                f"the certificate {name} must not sign (its key usage lacks digitalSignature), "
                "and TLS does nothing else with it",
                where,
            )
        if isinstance(value, x509.ExtendedKeyUsage):
            _check_extended_usage(value, name, purposes, where)


def _check_extended_usage(
    value: x509.ExtendedKeyUsage, name: str, purposes: Collection[Purpose], where: str
) -> None:
    usages = set(value)
    if ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in usages:
        return
    if not usages & set(_usages.values()):
        raise OperatorError(
            f"the certificate {name} is not made for TLS: its extended key usage has neither "
            "serverAuth nor clientAuth",
            where,
        )
    for purpose in sorted(purposes, key=lambda purpose: purpose.name):
        if _usages[purpose] not in usages:
            use = "the secured listener" if purpose is Purpose.LISTENER else "remote AEs with TLS"
            raise OperatorError(
                f"the certificate {name} is not made for {use}: its extended key usage lacks "
                f"{purpose.value}",
                where,
            )

"""The TLS context of connections to remote AEs, exactly as the profile says or not at all.

Python's ssl module sets the suites of TLS 1.2 and cannot set those of TLS 1.3 (before 3.15), so
these come from a configuration that OpenSSL is given in memory. Every way of doing this fails
silently in some way of its own; therefore what a context really offers is read back and compared,
and a difference is refused (tests/engine/tls/test_tls_client.py holds both ends to it).
"""

import _ssl
import ctypes
import os
import secrets
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import load_der_private_key

from engine.config.loading import Config
from engine.errors import OperatorError
from engine.limits import tls_security_level
from engine.tls.chain import Purpose
from engine.tls.material import TlsMaterial, load_material
from engine.tls.profiles import PROFILES, Profile

_application: Final = "scai"
# Acts on every context that this process makes afterwards, which is no harm: no profile knows other
# suites of TLS 1.3. The groups are OpenSSL's own choice, written down: ECDHE of 256 bits (X25519
# counts as such) and more, DHE of 2048 and more.
_configuration: Final = """\
{application} = modules
[modules]
ssl_conf = contexts
[contexts]
system_default = every_context
[every_context]
Ciphersuites = {suites}
Groups = X25519:P-256:X448:P-521:P-384:ffdhe2048:ffdhe3072:ffdhe4096
"""


def client_context(config: Config, now: datetime | None = None) -> ssl.SSLContext:
    """What remote AEs with TLS are spoken to with. OperatorError: the stores are no good."""
    material = load_material(config.tls, now, (Purpose.REMOTES,))
    try:
        return context_of(material)
    finally:
        material.wipe()


def context_of(material: TlsMaterial) -> ssl.SSLContext:
    """The client's context of what was read before, here or in another process.

    The peer's certificate must lead to one that we trust; its names are not compared with the
    remote AE's host: AEs are configured by address, devices' certificates rarely carry one, and
    DICOM (PS3.15 B) asks for none. Who is trusted is said by the trust store alone, so it should
    hold the hospital's own authority or the peers' certificates, and no public one.
    """
    context = bare_context(material.profile)
    load(context, material)
    return context


def load(context: ssl.SSLContext, material: TlsMaterial) -> None:
    """Key, chain and trust, into a context that has neither."""
    # A certificate in the trust store is trusted as it stands, also one that is not self-signed;
    # without the flag a store that holds only an intermediate authority would trust nobody.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        if material.trust:
            context.load_verify_locations(cadata=b"".join(material.trust))
    except ssl.SSLError as error:
        raise OperatorError(f"OpenSSL does not take it: {error}", "tls.trust_store") from error
    try:
        with _key_file(material) as (path, password):
            context.load_cert_chain(path, password=password)
    except ssl.SSLError as error:
        raise OperatorError(f"OpenSSL does not take it: {error}", "tls.key_store") from error


def bare_context(
    profile: Profile, side: ssl._SSLMethod = ssl.PROTOCOL_TLS_CLIENT
) -> ssl.SSLContext:
    """A context without keys and trust, which can offer the profile and nothing else."""
    _pin_tls13_suites()
    context = ssl.SSLContext(side)
    context.check_hostname = False  # see context_of()
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_3 if profile.tls13 else ssl.TLSVersion.TLSv1_2
    try:
        context.set_ciphers(":".join((*profile.tls12, f"@SECLEVEL={tls_security_level}")))
    except ssl.SSLError as error:
        raise OperatorError(
            f"{ssl.OPENSSL_VERSION} knows none of its suites: {error}",
            f"tls.profile {profile.name}",
        ) from error
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    _check_context(context, profile)
    return context


def effective_suites(context: ssl.SSLContext) -> tuple[str, ...]:
    """What a context offers, in its order: OpenSSL's list, without the versions it may not use."""
    has_tls13 = context.maximum_version != ssl.TLSVersion.TLSv1_2
    return tuple(
        suite["name"]
        for suite in context.get_ciphers()
        if has_tls13 or suite["protocol"] != "TLSv1.3"
    )


def _check_context(context: ssl.SSLContext, profile: Profile) -> None:
    """Refuse what is not exactly the profile, however it came about."""
    found = effective_suites(context)
    if found != profile.suites:
        raise OperatorError(
            f"{ssl.OPENSSL_VERSION} would offer {', '.join(found) or 'nothing'} instead of "
            f"{', '.join(profile.suites)}; is a suite switched off on this machine?",
            f"tls.profile {profile.name}",
        )
    highest = ssl.TLSVersion.TLSv1_3 if profile.tls13 else ssl.TLSVersion.TLSv1_2
    versions = (context.minimum_version, context.maximum_version)
    if versions != (ssl.TLSVersion.TLSv1_2, highest):
        raise OperatorError(
            f"{ssl.OPENSSL_VERSION} would take the versions {versions[0].name} to "
            f"{versions[1].name}",
            f"tls.profile {profile.name}",
        )
    if context.security_level != tls_security_level:
        raise OperatorError(
            f"{ssl.OPENSSL_VERSION} has security level {context.security_level} instead of "
            f"{tls_security_level}",
            f"tls.profile {profile.name}",
        )


@cache
def _pin_tls13_suites() -> None:
    """Once in a process. By OpenSSL's public CONF_modules_load_file(), whose answer says nothing
    (it is 1 for an unknown suite as well): the contexts are looked at instead.

    Rejected: OPENSSL_CONF, which must be set before the process starts and is ignored without a
    word otherwise; SSL_CTX_set_ciphersuites() on the pointer inside Python's context, which would
    crash where its layout changed.
    """
    (suites,) = {profile.tls13 for profile in PROFILES.values() if profile.tls13}
    text = _configuration.format(application=_application, suites=":".join(suites))
    # Symbols are looked up in the module's own libraries: the OpenSSL that Python really uses.
    library = ctypes.CDLL(_ssl.__file__)
    load = library.CONF_modules_load_file
    load.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong]
    load.restype = ctypes.c_int
    with _memory_file(text.encode("ascii")) as path:
        if load(path.encode("ascii"), _application.encode("ascii"), 0) <= 0:
            raise OperatorError(f"{ssl.OPENSSL_VERSION} took no configuration from memory")


@contextmanager
def _key_file(material: TlsMaterial) -> Iterator[tuple[str, str]]:
    """(path, password): key and chain as OpenSSL reads them, in memory and enciphered there with a
    password that nobody else ever has."""
    password = secrets.token_hex(24)
    protection = serialization.BestAvailableEncryption(password.encode("ascii"))
    content = load_der_private_key(material.key, None).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection
    )
    content += b"".join(ssl.DER_cert_to_PEM_cert(one).encode("ascii") for one in material.chain)
    with _memory_file(content) as path:
        yield path, password


@contextmanager
def _memory_file(content: bytes) -> Iterator[str]:
    """A path to bytes that are on no disk. OpenSSL opens it more than once, so it is no pipe."""
    descriptor = os.memfd_create("scai-tls", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)

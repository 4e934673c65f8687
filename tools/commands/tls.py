"""`scai tls show` and `scai tls make-demo DIR`: what TLS is made of, and a set of it to try.

`show` reads the stores as the service does and has OpenSSL try what is in them, so what it prints
is what is really offered. It never prints a key or a password.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from engine import limits
from engine.config.loading import Config
from engine.errors import OperatorError
from engine.tls.chain import Purpose, name_of
from engine.tls.client import bare_context, context_of, effective_suites
from engine.tls.material import TlsMaterial, load_material, purposes_of
from engine.tls.profiles import PROFILES, Profile
from native import _core
from tools.commands.tls_demo import make_demo
from tools.face.options import config_option, json_option, load
from tools.face.telling import tell
from tools.face.terminal import counted, printable


@click.group(name="tls")
def command() -> None:
    """Show what TLS is made of; make a throwaway set of it to try."""


@command.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
def show(config_path: Path | None, as_json: bool) -> None:
    """Show suites, certificate chain, expiry and fingerprints. Exit 2: the stores are no good."""
    config = load(config_path).config
    material = tried_material(config) if config.tls.key_store else None
    profiles = {profile.name: offered_suites(profile, material) for profile in PROFILES.values()}
    if as_json:
        click.echo(json.dumps(_as_object(config, profiles, material), indent=2))
        return
    for name, suites in profiles.items():
        used = "  (in use)" if name == config.tls.profile and purposes_of(config) else ""
        click.echo(f"{name}: {PROFILES[name].title}{used}")
        for suite in suites:
            click.echo(f"  {'TLS 1.3' if suite in PROFILES[name].tls13 else 'TLS 1.2'}  {suite}")
    click.echo(printable(f"used by: {'; '.join(_users(config)) or 'nothing'}"))
    if material is None:
        click.echo("key store: none (tls.key_store)")
        return
    click.echo(f"certificate of peers that connect: {config.tls.client_authentication}")
    for heading, encoded in (("our chain", material.chain), ("trusted", material.trust)):
        click.echo(f"{heading}:")
        for one in encoded:
            click.echo(printable("\n".join(_lines(x509.load_der_x509_certificate(one)))))
    for warning in material.warnings:
        click.echo(printable(f"warning: {warning}"), err=True)


@command.command("make-demo")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False), metavar="DIR")
@json_option
def make_demo_command(directory: Path, as_json: bool) -> None:
    """Make a throwaway authority, stores and a configuration in DIR, and say how to try them."""
    text = make_demo(directory)
    made = str(directory.absolute())
    tell(as_json, text, directory=made, configuration=str(directory.absolute() / "scai.toml"))


def tried_material(config: Config) -> TlsMaterial:
    """What the stores hold, tried by OpenSSL for all that the configuration uses it for, as the
    service does at its start. OperatorError: it would not start with it."""
    purposes = purposes_of(config)
    material = load_material(config.tls, None, purposes)
    if Purpose.REMOTES in purposes:
        context_of(material)
    if Purpose.LISTENER in purposes:
        _listener(material.profile, material)
    return material


def offered_suites(profile: Profile, material: TlsMaterial | None) -> tuple[str, ...]:
    """The suites that OpenSSL really offers for a profile, read back from both of its sides: the
    one that connects, and the one that listens if there is a key for it."""
    offered = effective_suites(bare_context(profile))
    if material is not None:
        listened = tuple(_listener(profile, material).suites)
        if listened != offered:
            raise OperatorError(
                f"OpenSSL offers {', '.join(listened)} where it listens and "
                f"{', '.join(offered)} where it connects",
                f"tls.profile {profile.name}",
            )
    return offered


def _listener(profile: Profile, material: TlsMaterial) -> _core.TlsServer:
    try:
        return _core.TlsServer(
            material.key,
            material.chain,
            material.trust,
            profile.tls12,
            profile.tls13,
            material.client_authentication,
            limits.tls_read_ahead_bytes,
            limits.tls_security_level,
            limits.tls_chain_certificates_max,
        )
    except ValueError as error:
        raise OperatorError(f"no listener can be secured with it: {error}", "tls") from error


def _users(config: Config) -> list[str]:
    """What is secured, in words."""
    found = []
    if config.secured_scp.enabled:
        found.append(f"listener {config.secured_scp.ae_title}:{config.secured_scp.port}")
    return found + [f"remote AE {remote.name}" for remote in config.remotes if remote.tls]


def _lines(certificate: x509.Certificate) -> list[str]:
    """One certificate for people."""
    facts = _facts(certificate)
    left = certificate.not_valid_after_utc - datetime.now(UTC)
    days = counted(left.days, "day", "days")
    return [
        f"  {facts['subject']}",
        f"    issuer       {facts['issuer']}",
        f"    valid        {facts['not_before']} to {facts['not_after']} ({days} left)",
        f"    key          {facts['key']}",
        f"    SHA-256      {facts['sha256']}",
    ]


def _facts(certificate: x509.Certificate) -> dict[str, str]:
    return {
        "subject": name_of(certificate),
        "issuer": certificate.issuer.rfc4514_string(),
        "not_before": certificate.not_valid_before_utc.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "not_after": certificate.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "key": _key_text(certificate),
        "sha256": certificate.fingerprint(hashes.SHA256()).hex(":").upper(),
    }


def _key_text(certificate: x509.Certificate) -> str:
    """Its kind and size; an authority's may be of any kind."""
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        return f"unknown: {error}"
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    return f"EC {key.curve.name}" if isinstance(key, ec.EllipticCurvePublicKey) else "other"


def _as_object(
    config: Config, profiles: dict[str, tuple[str, ...]], material: TlsMaterial | None
) -> dict[str, Any]:
    """The JSON form."""
    shown: dict[str, Any] = {
        "profile": config.tls.profile,
        "suites": profiles,
        "used_by": _users(config),
        "client_authentication": config.tls.client_authentication,
    }
    if material is not None:
        for name, encoded in (("chain", material.chain), ("trusted", material.trust)):
            shown[name] = [_facts(x509.load_der_x509_certificate(one)) for one in encoded]
        shown["warnings"] = material.warnings
    return shown

"""The secure transport connection profiles as data: which suites, in which order, and no others.

Tables 7.1-1 and 8.6-1 of the conformance statement. The server side and the client side are built
from these rows, and what OpenSSL made of them is compared with them afterwards. A difference is
refused at start. The reason is that every way of setting suites fails silently in some way of its
own: an unknown TLS 1.3 suite shortens the list, missing DH parameters disable two suites.
"""

from typing import Final

from msgspec import Struct


class Profile(Struct, frozen=True):
    """One profile. The suites have OpenSSL's names and stand in the order of preference."""

    name: str  # as in the configuration
    title: str  # as in PS3.15
    tls12: tuple[str, ...]
    tls13: tuple[str, ...]  # empty: TLS 1.2 is the highest version

    @property
    def suites(self) -> tuple[str, ...]:
        """All of them, as OpenSSL lists what a context really offers: TLS 1.3 first."""
        return self.tls13 + self.tls12


# ChaCha20-Poly1305 and the CCM suites are in no table of the statement.
_tls13: Final = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384")
_bcp195: Final = (
    "ECDHE-RSA-AES256-GCM-SHA384",
    "DHE-RSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "DHE-RSA-AES128-GCM-SHA256",
)
# PS3.15 B.11 names its suites one by one; those of TLS 1.3 are not among them.
_extended: Final = (
    "DHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "DHE-RSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
)

# The first two differ on the wire only by name: BCP 195 allows a downgrade to suites before TLS
# 1.2, and none of those listed exists there.
PROFILES: Final[dict[str, Profile]] = {
    profile.name: profile
    for profile in (
        Profile("bcp195", "BCP195 TLS", _bcp195, _tls13),
        Profile("non-downgrading", "Non-Downgrading BCP195 TLS", _bcp195, _tls13),
        Profile("extended", "Extended BCP195 TLS", _extended, ()),
    )
}

"""When our certificate ends: a metric, and a line in the log every day from 30 days before.

It serves the secured listener and all that is sent over TLS alike, so the supervisor watches it.
"""

from collections.abc import Callable
from typing import Final

from engine import limits
from engine.telemetry.counters import CounterBlock
from engine.telemetry.logs import Log
from engine.telemetry.metrics import Gauge

_int64_max: Final = 2**63 - 1
_day_s: Final = 86_400


class CertificateWatch:
    """`now` tells seconds since 1970."""

    def __init__(self, counters: CounterBlock, log: Log, now: Callable[[], float]) -> None:
        self._counters = counters
        self._log = log
        self._now = now
        self._ends_ns = 0
        self._next_look_s = 0.0

    def note(self, ends_ns: int) -> None:
        """The stores were read: the first certificate of the chain ends then; 0: nothing is
        secured."""
        self._ends_ns = ends_ns
        self._next_look_s = 0.0
        self._counters.set(Gauge.CERTIFICATE_END, min(ends_ns, _int64_max))

    def look(self) -> None:
        """On every turn of the supervisor; costs nothing but once a day."""
        now = self._now()
        if not self._ends_ns or now < self._next_look_s:
            return
        self._next_look_s = now + limits.tls_expiry_check_s
        left_s = self._ends_ns / 10**9 - now
        if left_s < limits.certificate_expiry_warning_days * _day_s:
            note = self._log.warning if left_s > 0 else self._log.error
            note("certificate_expires", days=int(left_s // _day_s))

"""The watch over our certificate's end: told when it is near, once a day, and in a metric."""

import os

import pytest

from engine.telemetry.counters import CounterSegment
from engine.telemetry.logs import Log
from engine.telemetry.metrics import Gauge
from workers.supervision.certificate import CertificateWatch

_DAY = 86_400
_NOW = 1_800_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = _NOW

    def __call__(self) -> float:
        return self.now


class Told(Log):
    """A log that keeps what it is told."""

    def __init__(self) -> None:
        super().__init__("info", process="supervisor")
        self.lines: list[tuple[str, str, object]] = []

    def warning(self, event: str, **fields: object) -> None:
        self.lines.append(("warning", event, fields["days"]))

    def error(self, event: str, **fields: object) -> None:
        self.lines.append(("error", event, fields["days"]))


@pytest.fixture
def watch() -> tuple[CertificateWatch, Clock, Told, CounterSegment]:
    segment = CounterSegment.create()
    block = segment.block(segment.claim("supervisor", "supervisor"))
    block.begin(os.getpid())
    clock, log = Clock(), Told()
    return CertificateWatch(block, log, clock), clock, log, segment


def test_days_left_are_told_once_a_day_until_it_is_renewed(
    watch: tuple[CertificateWatch, Clock, Told, CounterSegment],
) -> None:
    certificate, clock, log, segment = watch
    certificate.look()
    assert log.lines == [], "nothing is secured"
    certificate.note(int((_NOW + 31.5 * _DAY) * 1e9))
    assert segment.block(0).get(Gauge.CERTIFICATE_END) == int((_NOW + 31.5 * _DAY) * 1e9)
    for _ in range(34 * 24):
        certificate.look()
        clock.now += 3600
    days = [days for level, _, days in log.lines if level == "warning"]
    assert days == list(range(29, -1, -1))
    assert [(level, days) for level, _, days in log.lines[30:]] == [("error", -1), ("error", -2)]
    told = len(log.lines)
    certificate.note(int((clock.now + 400 * _DAY) * 1e9))
    certificate.look()
    assert len(log.lines) == told

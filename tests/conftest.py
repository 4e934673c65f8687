"""Fixtures every test may use: the running service, and what it takes to look at it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.gateway import Gateway


@pytest.fixture
def start_gateway(tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    """Start a service with the settings given; all of them end with the test."""
    started: list[Gateway] = []

    def start(settings: dict[str, Any] | None = None, **more: Any) -> Gateway:
        gateway = Gateway(tmp_path / f"gateway-{len(started)}", settings, **more)
        started.append(gateway)
        return gateway.start()

    yield start
    for gateway in started:
        gateway.close()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One service with default settings for a whole file of tests."""
    service = Gateway(tmp_path_factory.mktemp("gateway"))
    try:
        yield service.start()
    finally:
        service.close()

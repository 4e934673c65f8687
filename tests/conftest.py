"""Fixtures every test may use: the running service, and studies to fetch for it.

Property tests run derandomised: the same examples in every run of the same test, so that a verdict
is no chance. `python -m tests.randomised` looks for new ones, with the profile of that name.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, settings

from tests.rigs.archives import MadeStudy, make_study
from tests.rigs.gateway import Gateway
from tests.rigs.prefetch_shelf import Shelf

# What tables show must not hang on the terminal that the tests are run in; those about tables say.
os.environ["COLUMNS"] = "250"

settings.register_profile("derandomised", derandomize=True, database=None, print_blob=False)
settings.register_profile("randomised", derandomize=False, database=None, print_blob=False)
# For planted faults: that an example fails is enough, the smallest one takes minutes to find.
settings.register_profile(
    "planted", settings.get_profile("derandomised"), phases=(Phase.explicit, Phase.generate)
)
settings.load_profile("derandomised")


@pytest.fixture
def make_gateway(tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    """Make a service with the settings given, not started yet; all of them end with the test."""
    made: list[Gateway] = []

    def make(settings: dict[str, Any] | None = None, **more: Any) -> Gateway:
        made.append(Gateway(tmp_path / f"gateway-{len(made)}", settings, **more))
        return made[-1]

    yield make
    for gateway in made:
        gateway.close()


@pytest.fixture
def start_gateway(make_gateway: Callable[..., Gateway]) -> Callable[..., Gateway]:
    """The same, started."""
    return lambda settings=None, **more: make_gateway(settings, **more).start()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One service with default settings for a whole file of tests."""
    service = Gateway(tmp_path_factory.mktemp("gateway"))
    try:
        yield service.start()
    finally:
        service.close()


@pytest.fixture
def shelf(tmp_path: Path, gateway: Gateway) -> Shelf:
    """An archive for the test's gateway, with an earlier study of the patient of `trigger`."""
    return Shelf(make_study(tmp_path / "prior", "4711", "20230510"), gateway)


@pytest.fixture
def trigger(tmp_path: Path) -> MadeStudy:
    """One image, for which earlier studies are fetched."""
    return make_study(tmp_path / "trigger", "4711", "20240601", images=1)

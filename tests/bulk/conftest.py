"""Two real ComfyUI servers, photos of three people, and a folder for a run over them."""

import pytest

# before pytest takes the name for this folder
import bulk.jobs  # noqa: F401  isort: skip
from campaigns import start_server, write_campaign
from photos import write_image

PEOPLE = ("a", "b", "c")


@pytest.fixture(scope="session")
def servers(tmp_path_factory):
    """Two servers for tests that leave them alive."""
    folder = tmp_path_factory.mktemp("servers")
    with start_server(folder / "first.log") as first, start_server(folder / "second.log") as second:
        yield [first, second]


@pytest.fixture(scope="session")
def portraits(tmp_path_factory):
    """A folder with a photo of each of three people."""
    from oracle import fixtures
    folder = tmp_path_factory.mktemp("people")
    for name in PEOPLE:
        write_image(folder / f"{name}.png", fixtures.portrait(name))
    return folder


@pytest.fixture
def campaign(tmp_path, portraits):
    """campaign(servers, **settings) -> Campaign over the three people."""
    return lambda servers, **settings: write_campaign(tmp_path, servers, **{"people": portraits, **settings})

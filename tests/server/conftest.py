"""One real ComfyUI server for the ring, the pack in its custom_nodes, a miniature SDXL served by the demo's loader nodes."""

import os
from contextlib import ExitStack
from pathlib import Path

import pytest
from chromium import BROWSERS, Editor, find_browser
from conftest import DEV
from oracle import fixtures as fx
from photos import write_image
from serving import miniature
from serving.server import Server

COMFYUI = os.environ.get("INSTANTID_COMFYUI")


@pytest.fixture(scope="session")
def started(tmp_path_factory):
    """A function of a graph editor's folder that gives a server with it, started once. None: ComfyUI's own editor."""
    miniature.write_adapter(DEV / "models" / "instantid")
    servers = {}
    with ExitStack() as running:
        def server_with(frontend):
            if frontend not in servers:
                arguments = ("--front-end-root", str(frontend)) if frontend else ()
                servers[frontend] = running.enter_context(Server(
                    Path(COMFYUI), cpu=True, arguments=arguments, log=tmp_path_factory.mktemp("server") / "log"))
            return servers[frontend]
        yield server_with


@pytest.fixture(scope="session")
def server(started, request):
    return started(getattr(request, "param", None))


@pytest.fixture(scope="session")
def client(server):
    return server.client


@pytest.fixture(scope="session")
def photo(client, tmp_path_factory):
    """Name of a portrait in the server's input folder."""
    return client.upload_image(write_image(tmp_path_factory.mktemp("photos") / "portrait.png", fx.portrait("a")))


@pytest.fixture(scope="session")
def editor(tmp_path_factory):
    """A browser for all tests of the graph editor, each of which opens the page that it needs. Skipped without a Chromium."""
    browser = find_browser()
    if not browser:
        pytest.skip(f"no Chromium on the PATH ({', '.join(BROWSERS)}): the graph editor cannot be opened")
    editor = Editor(browser, tmp_path_factory.mktemp("browser"))
    yield editor
    editor.close()

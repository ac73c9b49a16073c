"""Real ComfyUI servers for the ring, the pack in their custom_nodes, a miniature SDXL served by the demo's loader nodes."""

import functools
import os
from contextlib import ExitStack
from pathlib import Path

import pytest
from chromium import BROWSERS, CANVASES, Editor, describe, find_browser
from conftest import CHECKOUT, DEV
from oracle import fixtures as fx
from photos import write_image
from serving import miniature
from serving.server import Server

COMFYUI = Path(os.environ.get("INSTANTID_COMFYUI", ""))


@pytest.fixture(scope="session")
def photo():
    """Name of a portrait in the input folder of each server."""
    return "portrait.png"


@pytest.fixture(scope="session")
def start(photo, tmp_path_factory):
    """start(*arguments of ComfyUI, **further ones of Server): a running server, for equal arguments the same one."""
    miniature.write_adapter(DEV / "models" / "instantid")
    portrait = write_image(tmp_path_factory.mktemp("photos") / photo, fx.portrait("a"))
    with ExitStack() as running:
        @functools.cache
        def start(*arguments, **more):
            server = running.enter_context(Server(COMFYUI, cpu=True, arguments=arguments,
                                                  log=tmp_path_factory.mktemp("server") / "log", **more))
            server.client.upload_image(portrait)
            return server
        yield start


@pytest.fixture(scope="session")
def client(start):
    return start().client


@pytest.fixture(scope="session")
def forgetful(start):
    """A server that keeps no node's output, and has two more packs with an id of ours each: one that ComfyUI imports before
    ours, and one after it."""
    before, after = (CHECKOUT / "tests" / "stand_ins" / f"twin_imported_{when}" for when in ("before", "after"))
    return start("--cache-none", before=(before,), after=(after,))


@pytest.fixture(scope="session")
def editor(tmp_path_factory):
    """A browser for all tests of the graph editor. Skipped without a Chromium."""
    browser = find_browser()
    if not browser:
        pytest.skip(f"no Chromium on the PATH ({', '.join(BROWSERS)}): the graph editor cannot be opened")
    editor = Editor(browser, tmp_path_factory.mktemp("browser"))
    yield editor
    editor.close()


@pytest.fixture(scope="session", params=CANVASES, ids=describe)
def canvas(request, start, editor):
    """The graph editor, of each version and with each canvas. It is opened once, and each test loads a graph of its own."""
    frontend, vue = request.param
    editor.open(start(*(("--front-end-root", str(frontend)) if frontend else ())).client, vue)
    return editor

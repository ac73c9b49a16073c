"""ComfyUI's graph editor in headless Chromium."""

import contextlib
import shutil
import subprocess

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--no-proxy-server",
         "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]     # the editor would ask the net for news
READY = "() => globalThis.app?.graph?.nodes.length > 0"     # it begins with a workflow of its own


def find_browser():
    """A Chromium that runs, or None: Ubuntu's chromium-browser may be a script that only asks for a snap."""
    for name in BROWSERS:
        path = shutil.which(name)
        if path and subprocess.run([path, "--version"], capture_output=True).returncode == 0:
            return path
    return None


@contextlib.contextmanager
def editor(client, folder):
    """The editor of a server, as Playwright's page, with a profile in an empty folder. Skips the test without a Chromium.

    The page must be done with before a workflow is queued: both need an event loop of their own.
    """
    browser = find_browser()
    if not browser:
        pytest.skip(f"no Chromium on the PATH ({', '.join(BROWSERS)}): the graph editor cannot be opened")
    from playwright.sync_api import sync_playwright
    client.post("/settings/Comfy.TutorialCompleted", True)      # no dialog of templates over the first graph
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(folder, executable_path=browser, headless=True, args=FLAGS)
        try:
            page = context.pages[0]
            page.goto(f"http://{client.address}/")
            page.wait_for_function(READY, timeout=120_000)
            yield page
        finally:
            context.close()

"""ComfyUI's editor in headless Chromium, for the tests of the server ring."""

import contextlib
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

import environment
import pins

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--no-proxy-server",
         "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]     # the editor would ask the net for news
# It begins with a workflow of its own, behind a mask that takes every click until it has faded.
READY = "() => globalThis.app?.graph?.nodes.length > 0 && !document.querySelector('.p-blockui-mask')"
PATIENCE = 120_000      # milliseconds
VUE = "Comfy.VueNodes.Enabled"      # the setting that turns Nodes 2.0 on
# (folder of a graph editor, whether nodes are drawn as in Nodes 2.0); no folder is ComfyUI's own editor
CANVASES = [(None, False), (environment.NEWEST_FRONTEND, False), (None, True), (environment.NEWEST_FRONTEND, True)]
CLASSIC = CANVASES[:2]


def describe(canvas):
    """Returns the name of one of CANVASES."""
    frontend, vue = canvas
    return ", ".join((f"editor {pins.NEWEST_FRONTEND.version}" if frontend else "own editor",
                      "Nodes 2.0" if vue else "classic canvas"))


def find_browser():
    """A Chromium that runs, or None: Ubuntu's chromium-browser may be a script that only asks for a snap."""
    for name in BROWSERS:
        path = shutil.which(name)
        if path and subprocess.run([path, "--version"], capture_output=True).returncode == 0:
            return path
    return None


class Editor:
    """One browser with one page. Playwright has a thread of its own: it keeps an event loop, and so does the tests' client.

    client: of the server whose editor is open. errors: what pages have thrown since this was emptied."""

    def __init__(self, browser, profile):
        self._thread = ThreadPoolExecutor(1)
        self.client, self.vue, self.errors = None, False, []
        self._in_thread(self._start, browser, profile)

    def _start(self, browser, profile):
        from playwright.sync_api import sync_playwright
        self._playwright = sync_playwright().start()
        self._context = self._playwright.chromium.launch_persistent_context(
            profile, executable_path=browser, headless=True, args=FLAGS, viewport={"width": 1600, "height": 1000})
        self._context.set_default_timeout(PATIENCE)
        self._context.on("weberror", lambda event: self.errors.append(str(event.error)))
        self._page = self._context.pages[0]

    def _in_thread(self, function, *arguments):
        return self._thread.submit(function, *arguments).result()

    def open(self, client, vue=False, locale="en"):
        self.client, self.vue = client, vue
        # no dialog of templates over the first graph
        for name, value in {"Comfy.TutorialCompleted": True, VUE: vue, "Comfy.Locale": locale}.items():
            client.post(f"/settings/{name}", value)
        self._in_thread(self._page.goto, f"http://{client.address}/")
        self.wait_for(READY)

    @contextlib.contextmanager
    def second_page(self, client, **settings):
        """Another page in front of the one that is open, which is left as it is."""
        first = self._page, self.client, self.vue
        self._page = self._in_thread(self._context.new_page)
        try:
            self.open(client, **settings)
            yield
        finally:
            self._in_thread(self._page.close)
            self._page, self.client, self.vue = first
            self._in_thread(self._page.bring_to_front)

    def evaluate(self, script, argument=None):
        return self._in_thread(self._page.evaluate, script, argument)

    def wait_for(self, script, argument=None):
        """Waits until a JavaScript function of the page returns something true, which is returned."""
        return self._in_thread(lambda: self._page.wait_for_function(script, arg=argument).json_value())

    def drive(self, function):
        return self._in_thread(function, self._page)

    def close(self):
        self._in_thread(self._context.close)
        self._in_thread(self._playwright.stop)
        self._thread.shutdown()

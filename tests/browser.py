"""The real front end of ComfyUI in headless Chromium, for the workflow tests and for the pictures in the docs.

Nothing but the server under test is reached: what the front end asks of the internet (news, the registry) is cut off.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

from .comfyui_server import ComfyUI

INSTALL = "pip install playwright comfyui-frontend-package==1.32.9, and apt-get install chromium"
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_SWITCHES = ("no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking")
_SWITCHES += ("disable-component-update", "disable-sync")
# A new profile shows a tour, news and a map of the graph; none of it belongs into a picture of a workflow.
SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.Minimap.Visible": False,
    "Comfy.Graph.CanvasInfo": False,
    "Comfy.Workflow.Persist": False,
    "Comfy.NodeBadge.NodeSourceBadgeMode": "None",
}
# What the front end reports whatever the pack does: files of the user that a new profile lacks, core templates, which
# are a package of their own, help pages, which it looks for in the user's language first, and the missing internet.
_NOT_OURS = ("/userdata", "/user.css", "/templates/index", "core workflow templates", "/en.md")
_NOT_OURS += ("Error fetching file size",)
_CLOSE = ".p-dialog-close-button, button:has([class*='lucide--x']), button:has(.pi-times)"


def find_chromium() -> str:
    """The browser's path; without one, or without Playwright or the front end, the test is skipped."""
    for package in ("playwright", "comfyui_frontend_package"):
        if find_spec(package) is None:
            pytest.skip(f"needs {package}: {INSTALL}")
    named = os.environ.get("CHROMIUM_PATH")
    found = named or next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    if found is None:
        pytest.skip(f"needs Chromium, or its path in CHROMIUM_PATH: {INSTALL}")
    return found


class FrontEnd:
    """A page with the front end of a running server.

    Attributes:
        page: Playwright's page.
        errors: what the console and the page reported since the last workflow was opened, without what a new profile
            and the missing internet bring.
    """

    def __init__(self, page: object, server: ComfyUI) -> None:
        self.page = page
        self.server = server
        self.errors: list[str] = []
        self._origin = f"http://127.0.0.1:{server.port}"
        page.route(lambda url: not url.startswith(self._origin), lambda route: route.abort())
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.add_init_script("localStorage.setItem('vueNodesBannerDismissed', 'true')")
        page.goto(self._origin)
        page.wait_for_function("window.app?.vueAppReady && window.app.extensionManager?.command", timeout=120_000)

    def open(self, workflow: dict, name: str = "workflow") -> None:
        """Shows a workflow, in the form in which the front end saves it, in a tab of that name."""
        self.errors.clear()
        self.close_dialogs()
        self.page.evaluate("app.extensionManager.toast.removeAll()")
        self.page.evaluate("([workflow, name]) => app.loadGraphData(workflow, true, true, name)", [workflow, name])

    def dialogs(self) -> list[str]:
        """The texts of the dialogs and of the alerts that are open."""
        return self.page.locator("[role=dialog], [role=alert]").all_inner_texts()

    def close_dialogs(self) -> None:
        """Closes what is open over the graph."""
        open_dialogs = self.page.locator("[role=dialog]")
        while left := open_dialogs.count():
            open_dialogs.last.locator(_CLOSE).first.click()
            self.page.wait_for_function(
                "left => document.querySelectorAll('[role=dialog]').length < left", arg=left, timeout=10_000
            )

    def unknown_nodes(self) -> list[str]:
        """The types in the open graph that the front end does not know."""
        return self.page.evaluate("app.graph._nodes.map(n => n.type).filter(t => !LiteGraph.registered_node_types[t])")

    def prompt(self) -> dict:
        """The open graph in the form that the front end posts to the server."""
        return self.page.evaluate("app.graphToPrompt().then(prompt => prompt.output)")

    def saved(self) -> dict:
        """The open graph in the form in which the front end saves it."""
        return json.loads(self.page.evaluate("JSON.stringify(app.graph.serialize())"))  # evaluate turns gaps into nulls

    def run(self, timeout_s: float = 300) -> dict:
        """Presses Run and returns the server's history entry once the prompt has ended."""
        with self.page.expect_response("**/api/prompt") as posted:
            self.page.evaluate("app.queuePrompt(0)")
        answer = posted.value.json()
        assert "prompt_id" in answer, answer
        entry = self.server.wait(answer["prompt_id"], timeout_s)
        self.page.wait_for_timeout(300)  # for the page to hear of it
        return entry

    def fit(self, share: float = 0.9) -> None:
        """Moves the selected nodes, or the whole open graph, into that share of the view and waits for the previews."""
        self.page.evaluate("zoom => app.canvas.fitViewToSelectionAnimated({zoom, duration: 1})", share)
        self.page.wait_for_timeout(1500)

    def _on_console(self, message: object) -> None:
        about = f"{message.text} {message.location.get('url', '')}"
        outside = not message.location.get("url", self._origin).startswith(self._origin)
        if message.type == "error" and not outside and not any(known in about for known in _NOT_OURS):
            self.errors.append(about)


@contextmanager
def front_end(server: ComfyUI, width_px: int = 1600, height_px: int = 900) -> Iterator[FrontEnd]:
    """A new browser profile with the front end of `server` in it; closed at the end."""
    from playwright.sync_api import sync_playwright

    executable = find_chromium()
    with sync_playwright() as playwright:
        switches = [f"--{switch}" for switch in _SWITCHES]
        browser = playwright.chromium.launch(executable_path=executable, args=switches)
        try:
            page = browser.new_page(viewport={"width": width_px, "height": height_px})
            yield FrontEnd(page, server)
        finally:
            browser.close()


def write_settings(base: Path) -> None:
    """Settings of the server's default user, which the front end reads as it starts."""
    file = base / "user" / "default" / "comfy.settings.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(SETTINGS), encoding="utf-8")

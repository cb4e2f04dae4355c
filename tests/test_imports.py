"""The shape of the package: who may import whom, and that an import does nothing else."""

import ast
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import depthfm_core
from depthfm_core.quick_imports import OF_DIFFUSERS_ALONE

PACKAGE = Path(depthfm_core.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
# Room -> rooms directly below it. Everything below those is allowed too: imports point downwards.
ROOMS = {
    "flow": (),
    "replacing": (),
    "optional": (),
    "share": ("optional",),
    "workers": ("quick_imports",),
    "quick_imports": (),
    "depth": ("replacing", "resize"),
    "model": ("flow", "replacing"),
    "data": ("depth", "workers", "optional"),
    "backends": ("model",),
    "resize": (),
    "settings": ("flow", "resize"),
    "batching": ("model",),
    "checks": ("settings",),
    "parts": ("model",),
    "pipeline": ("checks", "parts", "batching", "depth"),
    "loading": ("pipeline", "backends"),
    "evaluation": ("loading", "data", "share"),
    "training": ("model", "flow", "data", "evaluation", "__init__"),
    "bench": ("evaluation", "loading", "quick_imports"),
    "cli": ("bench", "training", "evaluation", "loading", "quick_imports"),
    "__main__": ("cli", "__init__"),
    "__init__": ("loading",),
}
EINOPS_NEEDS_THE_TRACER = tuple(map(int, version("torch").split(".")[:2])) < (2, 8)  # to register with it
STANDARD = set(sys.stdlib_module_names)
PACKAGES = {
    "flow": {"torch", "einops"},
    "depth": {"torch", "einops", "numpy", "PIL", "OpenEXR"},
    "model": {"torch", "einops", "numpy", "diffusers", "safetensors", "huggingface_hub"},
    "backends": {"torch", "diffusers", "openvino"},
    "settings": {"torch"},
    "batching": {"torch"},
    "checks": {"torch"},
    "parts": {"torch"},
    "pipeline": {"torch", "einops"},
    "loading": {"torch"},
    "replacing": set(),
    "optional": set(),
    "share": {"torch"},
    "workers": {"torch"},
    "quick_imports": set(),
    "resize": {"torch", "einops"},
}


def room(path):
    """The folder directly in the package that a file lies in, or the file's own name."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def below(name):
    """All rooms that a room may import, itself included."""
    return {name}.union(*(below(lower) for lower in ROOMS[name]))


def imports(path):
    """(level, module, names) of every import statement, at the top and in functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            yield node.level, node.module or "", [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            yield from ((0, alias.name, []) for alias in node.names)


def imported_rooms(path):
    """The rooms that a file's relative imports lead to."""
    for level, module, names in imports(path):
        if level:
            base = path.relative_to(PACKAGE).parts[:-level]
            parts = (*base, *module.split(".")) if module else base
            yield from [parts[0]] if parts else [name if name in ROOMS else "__init__" for name in names]


def relative_name(path):
    return path.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize("path", FILES, ids=relative_name)
def test_imports_point_downwards_only(path):
    assert room(path) in ROOMS, f"{path} lies in no room of the architecture"
    assert set(imported_rooms(path)) <= below(room(path))


@pytest.mark.parametrize("path", FILES, ids=relative_name)
def test_the_package_never_names_itself_or_comfyui(path):
    absolute = {module.partition(".")[0] for level, module, _ in imports(path) if not level}
    assert not absolute & {"depthfm_core", "comfy", "comfy_api", "nodes"}


@pytest.mark.parametrize("path", [p for p in FILES if room(p) in PACKAGES], ids=relative_name)
def test_each_room_needs_its_own_packages_only(path):
    absolute = {module.partition(".")[0] for level, module, _ in imports(path) if not level}
    assert absolute - STANDARD <= PACKAGES[room(path)]


@pytest.mark.parametrize("path", FILES, ids=relative_name)
def test_code_is_ascii(path):
    assert path.read_text(encoding="utf-8").isascii()


def test_the_readers_of_imports_see_every_kind(tmp_path, monkeypatch):
    file = tmp_path / "flow" / "new.py"
    file.parent.mkdir()
    file.write_text(
        "from ..model.unet import a\nfrom .. import pipeline, __version__\nfrom . import ode\n"
        "def f():\n    import comfy.sd\n"
    )
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    assert list(imported_rooms(file)) == ["model", "pipeline", "__init__", "flow"]
    assert (0, "comfy.sd", []) in list(imports(file))


def fresh_process(code, folder):
    command = [sys.executable, "-B", "-c", code]
    environment = {"PYTHONPATH": str(PACKAGE.parent), "HOME": str(folder), "USERPROFILE": str(folder)}
    system = {name: value for name, value in os.environ.items() if name in ("PATH", "SYSTEMROOT")}
    return subprocess.run(command, cwd=folder, env=system | environment, capture_output=True, text=True, check=False)


def test_an_import_loads_no_comfyui_writes_no_file_and_says_nothing(tmp_path):
    code = (
        "import sys, depthfm_core; depthfm_core.load_pipeline; "
        "sys.exit(any(m.split('.')[0] in ('comfy', 'comfy_api', 'nodes') for m in sys.modules))"
    )
    done = fresh_process(code, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


def test_the_public_names_are_listed_for_whoever_completes_them():
    assert {*depthfm_core.__all__} <= {*dir(depthfm_core)}


def test_the_list_of_commands_needs_no_heavy_package(tmp_path):
    code = (
        "import sys; from depthfm_core.__main__ import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as end: sys.exit(end.code or any(m in sys.modules for m in ('torch', 'diffusers', 'numba')))"
    )
    done = fresh_process(code, tmp_path)
    assert done.returncode == 0
    assert "predict" in done.stdout


def test_predict_imports_nothing_of_diffusers_that_it_does_not_need_and_leaves_it_importable(tmp_path):
    for name in OF_DIFFUSERS_ALONE:
        (tmp_path / f"{name}.py").write_text(f"print('{name} was imported')\n")
    code = (
        "import sys; from depthfm_core.__main__ import main\n"
        "sys.argv = ['depthfm', 'predict', '--model', 'missing']\n"
        "assert main() == 2 and 'diffusers' in sys.modules\n"
        f"assert {EINOPS_NEEDS_THE_TRACER} or 'torch._dynamo' not in sys.modules\n"
        "import gc\n"
        "assert gc.isenabled() and gc.get_freeze_count() > 100_000\n"
        "import peft"
    )
    done = fresh_process(code, tmp_path)
    assert (done.returncode, done.stdout) == (0, "peft was imported\n"), done.stderr


@pytest.mark.parametrize(
    ("start", "count"),
    [
        ("sys.argv[1:] = ['predict']; main()", "2000"),
        ("sys.argv[1:] = ['label', 'photos']; main()", "2000"),
        ("sys.argv[1:] = ['evaluate']; main()", "2000"),
        ("sys.argv[1:] = ['bench']; main()", None),
        ("main(['predict'])", None),  # in a process that is another's
        ("os.environ['OMP_WAIT_POLICY'] = 'active'; sys.argv[1:] = ['predict']; main()", None),
        ("os.environ['GOMP_SPINCOUNT'] = '7'; sys.argv[1:] = ['predict']; main()", "7"),
    ],
)
def test_before_pytorch_is_imported_threads_of_estimating_are_told_to_sleep_soon(tmp_path, start, count):
    code = (
        "import os, sys; from depthfm_core.__main__ import main\n"
        "for name in ('OMP_WAIT_POLICY', 'GOMP_SPINCOUNT'): os.environ.pop(name, None)\n"
        "class Looks:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'torch': print(os.environ.get('GOMP_SPINCOUNT'), flush=True), os._exit(0)\n"
        f"sys.meta_path.insert(0, Looks()); {start}"
    )
    done = fresh_process(code, tmp_path)
    expected = count if sys.platform == "linux" or count == "7" else None
    assert (done.returncode, done.stdout) == (0, f"{expected}\n"), done.stderr


@pytest.mark.parametrize("module", ["torch", "numpy", "numpy.linalg", "PIL"])
def test_an_interrupt_while_packages_are_imported_ends_the_process(tmp_path, module):
    code = (
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # this run may be a job in the background
        "class Interrupts:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}: signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupts())\n"
        "sys.argv = ['depthfm', 'predict', 'missing.jpg']\n"
        "from depthfm_core.__main__ import main; sys.exit(main())"
    )
    done = fresh_process(code, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "depthfm: interrupted.\n")


def test_after_its_start_a_process_handles_an_interrupt_as_before(tmp_path):
    code = (
        "import signal, sys; from depthfm_core.__main__ import main\n"
        "usual = signal.default_int_handler\n"
        "signal.signal(signal.SIGINT, usual)\n"
        "sys.argv = ['depthfm', 'predict', 'missing.jpg']\n"
        "assert main() == 2 and signal.getsignal(signal.SIGINT) is usual\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"  # as shells leave it for a job in the background
        "assert main() == 2 and signal.getsignal(signal.SIGINT) is signal.SIG_IGN"
    )
    done = fresh_process(code, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "command",
    [
        *(f"{name} --help" for name in ("download", "evaluate", "label", "precompute", "predict")),
        "predict missing.jpg",
        "convert nano {folder}/copy.safetensors",
    ],
)
def test_what_builds_no_network_needs_no_diffusers(tmp_path, command):
    code = (
        "import sys; from depthfm_core.__main__ import main\n"
        f"sys.argv = ['depthfm', *{[word.format(folder=tmp_path) for word in command.split()]}]\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "sys.exit('torch' not in sys.modules or 'diffusers' in sys.modules)"
    )
    done = fresh_process(code, tmp_path)
    assert done.returncode == 0, done.stderr


EXTRAS = (
    *("accelerate", "embreex", "h5py", "matplotlib", "numba"),
    *("openvino", "peft", "scipy", "tensorboard", "torchvision", "transformers"),
)


@pytest.mark.parametrize(
    "command",
    ["predict {room} --output {folder}", "info nano", "convert nano {folder}/copy.safetensors"],
    ids=["predict", "info", "convert"],
)
def test_these_commands_need_no_package_but_the_requirements(tmp_path, command):
    words = [word.format(room=PACKAGE / "examples" / "room.jpg", folder=tmp_path) for word in command.split()]
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({EXTRAS}))\n"
        f"sys.argv = ['depthfm', *{words}]\n"
        "from depthfm_core.__main__ import main; sys.exit(main())"
    )
    done = fresh_process(code, tmp_path)
    assert done.returncode == 0, done.stderr

"""What the Comfy registry receives, checked with its own tools, and the workflows that test and publish it."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
import yaml

from depthfm_core.model.catalog import DOWNLOADS

from . import comfyui_server
from .comfyui_server import PACK, PACK_NAME, ComfyUI, find_comfyui

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PYPROJECT = PACK / "pyproject.toml"
WORKFLOWS = PACK / ".github" / "workflows"
UNCONFIRMED = "to-be-confirmed"
# What comfy-test forbids and we do on purpose; CONTRIBUTING.md says why. The training does not run in ComfyUI.
ARGUED_LINT = {
    ("depthfm_core/training/latents.py", "torch.autocast"),
    ("depthfm_core/training/losses.py", "torch.autocast"),
    ("depthfm_core/training/normal_loss.py", "torch.autocast"),
}
# Asked for before they are used, or looked up with a default: newer versions of ComfyUI have them.
ARGUED_IMPORTS = {
    "comfy.model_patcher.CoreModelPatcher",
    "comfy.model_management.is_oom",
    "comfy.model_management.intermediate_dtype",
}
# One picture through the bundled model.
GRAPH = {
    "image": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 255}},
    "model": {
        "class_type": "DepthFM_LoadModel",
        "inputs": {"model_name": "nano", "weight_dtype": "default", "attention": "plain"},
    },
    "depth": {
        "class_type": "DepthFM_Sampler",
        "inputs": {"model": ["model", 0], "image": ["image", 0], "seed": 0, "num_steps": 1, "solver": "euler"}
        | {"grid": "uniform", "ensemble_size": 1, "reduction": "mean", "processing_resolution": 64}
        | {"noise": "shared", "frames_at_once": 0},
    },
    "show": {"class_type": "PreviewImage", "inputs": {"images": ["depth", 0]}},
}


def run(tool: str, *arguments: str | Path, cwd: Path, check: bool = True) -> subprocess.CompletedProcess:
    """Runs a program that may lie beside this Python; without it the test is skipped."""
    program = shutil.which(tool, path=os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]]))
    if program is None:
        pytest.skip(f"needs {tool}: python -m pip install -e '.[registry]'")
    environment = os.environ | {"DO_NOT_TRACK": "1", "PYTHONUTF8": "1"}
    done = subprocess.run(
        [program, *map(str, arguments)], cwd=cwd, env=environment, capture_output=True, text=True, encoding="utf-8"
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def project():
    return tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A git repository with the files that git would take from here, as a clone has them."""
    if not (PACK / ".git").exists():
        pytest.skip("needs a git clone: the registry packs what git tracks")
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=PACK).stdout
    folder = tmp_path_factory.mktemp("checkout") / "depthfm"
    for name in filter(None, listed.split("\0")):
        if (PACK / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PACK / name, folder / name)
    make_repository(folder)
    return folder


def make_repository(folder: Path) -> None:
    run("git", "init", "--quiet", cwd=folder)
    run("git", "add", "--all", cwd=folder)
    who = ("-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false")
    run("git", *who, "commit", "--quiet", "--message", "all", cwd=folder)


@pytest.fixture(scope="module")
def archive(checkout, tmp_path_factory):
    """A ComfyUI folder whose custom_nodes hold what the registry's archive holds."""
    run("comfy", "--skip-prompt", "node", "pack", cwd=checkout)
    base = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(checkout / "node.zip") as packed:
        packed.extractall(base / "custom_nodes" / "depthfm")
    (checkout / "node.zip").unlink()
    return base


def test_comfy_node_validate_finds_nothing_to_say(checkout):
    done = run("comfy", "--skip-prompt", "node", "validate", cwd=checkout)
    said = (done.stdout + done.stderr).lower()
    assert "validation checks passed" in said and "warning" not in said and "error" not in said


def test_comfy_test_lint_finds_only_what_contributing_argues(archive):
    done = run("comfy-test", "lint", "--json", ".", cwd=archive / "custom_nodes" / "depthfm", check=False)
    report = json.loads(done.stdout)["results"]
    assert report["javascript"]["passed"], report
    assert lint_findings(report["syntax"]["details"] or "") == ARGUED_LINT
    argued = (PACK / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert all(file in argued for file, _ in ARGUED_LINT)


def lint_findings(details: str) -> set[tuple[str, str]]:
    """(file, what was found) of each line of comfy-test's report."""
    found, file = set(), ""
    for line in details.splitlines():
        if match := re.match(r"\s*(\S+\.py):$", line):
            file = Path(match[1]).as_posix()
        elif match := re.match(r"\s*Line \d+: ([\w.]+)", line):
            found.add((file, match[1]))
    return found


@pytest.mark.comfy
def test_comfyui_has_every_name_that_the_pack_imports_from_it(archive, tmp_path):
    unwanted = shutil.ignore_patterns(".git", "__pycache__", "models", "input", "output", "custom_nodes")
    shutil.copytree(find_comfyui(), tmp_path / "ComfyUI", ignore=unwanted)
    make_repository(tmp_path / "ComfyUI")
    options = ("--offline", "--cache-dir", tmp_path, "--json", "check", "--no-update", "--strict", "--target", "HEAD")
    done = run("comfy-import-guard", *options, "--comfy-dir", archive, cwd=tmp_path, check=False)
    (pack,) = json.loads(done.stdout)["packs"]
    assert pack["references"] > 20 and not pack["unparseable"] and not pack["signature_drift"]
    assert {found["dotted"] for found in (*pack["breaking"], *pack["soft"], *pack["unresolvable"])} == ARGUED_IMPORTS


def test_the_archive_holds_what_runs_and_nothing_else(archive):
    folder = archive / "custom_nodes" / "depthfm"
    names = {path.relative_to(folder).parts[0] for path in folder.rglob("*") if path.is_file()}
    runs = {"__init__.py", "nodes", "depthfm_core", "web", "locales", "workflows", "subgraphs"}
    read = {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff", "LICENSE", "NOTICE.md", "docs"}
    assert names == runs | read | {"pyproject.toml", "requirements.txt"}
    pictures = {name for name in files_below(PACK / "docs") if name.endswith((".jpg", ".png"))}
    assert files_below(folder / "docs") == files_below(PACK / "docs") - pictures
    for name in ("nodes", "depthfm_core", "web", "locales", "workflows", "subgraphs"):
        assert files_below(folder / name) == files_below(PACK / name)


@pytest.mark.comfy
def test_the_nodes_run_from_the_archive(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(comfyui_server, "PACK", archive / "custom_nodes" / "depthfm")
    server = ComfyUI(tmp_path / "base")
    try:
        info = server.get("/object_info")
        offered = {name for name, node in info.items() if PACK_NAME in node["python_module"]}
        entry = server.run(GRAPH)
    finally:
        server.stop()
    assert offered >= {node["class_type"] for node in GRAPH.values() if "DepthFM" in node["class_type"]}
    assert entry["status"]["status_str"] == "success", entry["status"]["messages"][-1]


def files_below(folder: Path) -> set[str]:
    paths = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder).as_posix() for path in paths}


def test_the_registry_reads_every_field_that_it_shows(project):
    comfy, urls = project["tool"]["comfy"], project["project"]["urls"]
    assert all(comfy[name] for name in ("PublisherId", "DisplayName", "Icon", "Models"))
    assert comfy["requires-comfyui"] == ">=0.3.64"
    assert {"Repository", "Documentation", "Bug Tracker"} <= set(urls)
    assert "Operating System :: OS Independent" in project["project"]["classifiers"]


def test_what_comfyui_manager_installs_is_what_the_library_needs_without_diffusers_and_never_replaces_torch(project):
    needed = set(project["project"]["dependencies"])
    (diffusers,) = (line for line in needed if line.startswith("diffusers"))
    assert set(to_be_installed(PACK)) == {"torch", *needed} - {"torch>=2.6", diffusers}


def test_comfyui_manager_installs_no_package_that_comfyui_does_not_have_itself():
    packs = (to_be_installed(folder) for folder in (PACK, find_comfyui()))
    ours, theirs = ({re.match(r"[\w-]+", line)[0].lower() for line in lines} for lines in packs)
    assert len(ours) > 5 and ours <= theirs


def to_be_installed(folder: Path) -> list[str]:
    lines = (folder / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_the_registry_offers_the_models_where_the_download_command_finds_them(project):
    offered = {(model["location"], model["model_url"]) for model in project["tool"]["comfy"]["Models"]}
    assert offered == {(f"/depthfm/{model.file_name}", model.url) for model in DOWNLOADS.values()}


def test_the_icon_is_in_the_repository_and_of_the_size_that_the_registry_takes(project):
    from PIL import Image

    with Image.open(PACK / "docs" / Path(project["tool"]["comfy"]["Icon"]).name) as icon:
        assert icon.width == icon.height <= 400


def workflow(name: str) -> dict:
    return yaml.safe_load((WORKFLOWS / name).read_text(encoding="utf-8"))


def commands(job: dict) -> list[str]:
    return [step["run"] for step in job["steps"] if "run" in step]


def test_the_test_workflow_runs_the_documented_commands_on_every_python_that_is_supported():
    jobs = workflow("test.yml")["jobs"]
    assert jobs["python"]["strategy"]["matrix"]["python"] == ["3.10", "3.11", "3.12", "3.13"]
    documented = (PACK / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert all(f"\n{command}\n" in documented for command in commands(jobs["python"]))


def test_the_lower_bounds_are_tested_on_the_oldest_python_by_the_documented_commands(project):
    job = workflow("test.yml")["jobs"]["lowest"]
    (python,) = (step["with"]["python-version"] for step in job["steps"] if "with" in step)
    assert project["project"]["requires-python"] == f">={python}"
    *install, test = commands(job)
    documented = (PACK / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert all(f"\n{command}\n" in documented for command in install) and f"| `{test}` |" in documented


def test_the_library_is_tested_on_windows_and_macos_by_the_documented_command():
    job = workflow("systems.yml")["jobs"]["library"]
    assert [system.partition("-")[0] for system in job["strategy"]["matrix"]["system"]] == ["windows", "macos"]
    install, test = commands(job)
    documented = (PACK / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert f"\n{install}\n" in documented and f"| `{test}` |" in documented


def test_the_test_workflow_runs_what_the_projects_own_ci_runs():
    (command,) = commands(workflow("test.yml")["jobs"]["comfyui"])
    assert (PACK / command.removeprefix("bash ")).is_file()


def test_a_release_is_tested_then_published_with_the_owners_token():
    content = workflow("publish.yml")
    publish = content["jobs"]["publish-node"]
    test = content["jobs"][publish["needs"]]
    assert test["uses"] == "./.github/workflows/test.yml"
    assert (test["needs"], test["if"]) == ("version", "needs.version.outputs.raised == 'true'")
    assert "workflow_call" in workflow("test.yml")[True]  # YAML 1.1 reads the key `on` as true
    assert publish["steps"][-1]["uses"] == "Comfy-Org/publish-node-action@v1"
    assert publish["steps"][-1]["with"] == {"personal_access_token": "${{ secrets.REGISTRY_ACCESS_TOKEN }}"}


def test_a_push_that_changes_the_versions_file_starts_the_release(project):
    push = workflow("publish.yml")[True]["push"]
    version_file = project["tool"]["comfy"]["version"]["path"]
    assert push["branches"] == ["main"] and push["paths"] == [version_file]
    assert re.search(r'^__version__ = "\d+\.\d+\.\d+"$', (PACK / version_file).read_text(encoding="utf-8"), re.M)


@pytest.mark.skipif(os.name == "nt", reason="the release runs on Linux")
@pytest.mark.parametrize(
    ("before", "version", "raised"),
    [
        ("HEAD^", "0.2.0", True),
        ("HEAD^", "0.1.0", False),
        ("", "0.1.0", True),
        ("0" * 40, "0.2.0", True),
        ("0" * 40, "0.1.0", False),
    ],
)
def test_a_push_is_released_only_if_it_raises_the_version(tmp_path, before, version, raised):
    file = tmp_path / "depthfm_core/__init__.py"
    file.parent.mkdir()
    for text in ('__version__ = "0.1.0"\n', f'__version__ = "{version}"\n# and more\n'):
        file.write_text(text, encoding="utf-8")
        make_repository(tmp_path)
    (command,) = commands(workflow("publish.yml")["jobs"]["version"])
    run("bash", "-e", "-c", f"BEFORE={before} GITHUB_OUTPUT=outputs\n{command}", cwd=tmp_path)
    assert (tmp_path / "outputs").exists() == raised


@pytest.mark.skipif(os.name == "nt", reason="the release runs on Linux")
@pytest.mark.parametrize(("text", "refused"), [(f'PublisherId = "{UNCONFIRMED}"', True), ('PublisherId = "me"', False)])
def test_the_release_refuses_addresses_that_the_owner_has_not_set(tmp_path, text, refused):
    (tmp_path / "pyproject.toml").write_text(text, encoding="utf-8")
    (command,) = commands(workflow("publish.yml")["jobs"]["publish-node"])
    assert (run("bash", "-e", "-c", command, cwd=tmp_path, check=False).returncode != 0) == refused

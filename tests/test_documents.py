"""README and CONTRIBUTING: their links, tables and commands are checked, so that they do not drift."""

import ast
import json
import re
import shlex
from pathlib import Path

import pytest

PACK = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "docs/nano.md", "docs/speed.md", "docs/training.md")
DOCUMENTS += ("docs/approximations.md", "docs/openvino.md", "docs/comfyui_speed.md")


def read(name: str) -> str:
    return (PACK / name).read_text(encoding="utf-8")


def first_column(text: str, title: str) -> list[str]:
    """The first cells of the table whose first column has this title, without their markup."""
    (body,) = re.findall(rf"^\| {title} \|.*\n\|[-|]+\n((?:\|.*\n?)+)", text, re.MULTILINE)
    return [row.split("|")[1].strip(" `*") for row in body.splitlines()]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_linked_file_exists(name):
    links = re.findall(r"\]\((?!https?:)([^)#]+)", read(name))
    assert all(((PACK / name).parent / link).exists() for link in links), links


def test_the_readme_lists_every_node_under_the_name_that_the_front_end_shows():
    nodes = json.loads(read("locales/en/nodeDefs.json")).values()
    shown = {node["display_name"].removesuffix(" (DepthFM)") for node in nodes}
    assert sorted(first_column(read("README.md"), "node")) == sorted(shown)


def test_the_readme_lists_every_workflow():
    files = (PACK / "workflows").glob("*.json")
    assert sorted(first_column(read("README.md"), "workflow")) == sorted(file.stem for file in files)


def test_the_paths_that_the_documents_name_exist():
    folders = r"depthfm_core|nodes|tests|web|locales|workflows|\.ci|\.github"
    for name, least in (("README.md", 8), ("CONTRIBUTING.md", 10)):
        named = re.findall(rf"`((?:{folders})/[\w./]*)`", read(name))
        assert len(named) >= least and all((PACK / path).exists() for path in named), named


def test_the_documents_install_only_extras_that_exist():
    project = read("pyproject.toml")
    installed = re.findall(r"-e '?\"?\.\[([\w,]+)\]", read("CONTRIBUTING.md") + read("README.md") + read(".ci/run"))
    assert len(installed) >= 4
    for extra in {extra for extras in installed for extra in extras.split(",")}:
        assert re.search(rf"^{extra} = \[", project, re.MULTILINE), extra


def test_the_ci_run_ends_with_the_readmes_test_command():
    commands = [shlex.split(line) for line in read(".ci/run").splitlines() if line and not line.startswith("#")]
    assert commands[-1] == ["python", "-m", "pytest"]
    assert "&& python -m pytest\n" in read("README.md")


@pytest.mark.parametrize("folder", ["depthfm_core/depth", "depthfm_core/model", "depthfm_core/training", "nodes"])
def test_the_guide_of_a_folder_names_all_of_its_files(folder):
    guide = ast.get_docstring(ast.parse(read(f"{folder}/__init__.py")))
    files = {path.stem for path in (PACK / folder).glob("*.py")} - {"__init__"}
    assert not files - set(re.findall(r"`(\w+)`", guide))


def test_the_readme_says_where_to_read_each_part():
    where = read("README.md").partition("## Where to read")[2]
    package = PACK / "depthfm_core"
    rooms = {path.parent.name for path in package.glob("*/__init__.py")}
    parts = rooms | {path.name for path in package.glob("*.py")} - {"__init__.py", "__main__.py"}
    named = {Path(name).parts[1] for name in re.findall(r"`(depthfm_core/[\w./]+)`", where)}
    assert not parts - named

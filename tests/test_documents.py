"""What people read: its links, tables, commands and examples are checked, so that they do not drift."""

import ast
import json
import re
import runpy
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import depthfm_core
from depthfm_core.__main__ import main
from depthfm_core.depth.color import COLORMAPS
from depthfm_core.depth.files import read_image
from depthfm_core.training import stages

PACK = Path(__file__).parents[1]
DOCUMENTS = sorted(path.relative_to(PACK).as_posix() for path in (*PACK.glob("*.md"), *PACK.glob("docs/*.md")))


def read(name: str) -> str:
    return (PACK / name).read_text(encoding="utf-8")


def first_column(text: str, title: str) -> list[str]:
    """The first cells of the table whose first column has this title, without their markup."""
    (body,) = re.findall(rf"^\| {title} \|.*\n\|[-|]+\n((?:\|.*\n?)+)", text, re.MULTILINE)
    return [row.split("|")[1].strip(" `*") for row in body.splitlines()]


def anchors(text: str) -> set[str]:
    """What GitHub calls the headings of a document: small letters, hyphens for spaces, no other marks."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^ *```.*?^ *```", "", text, flags=re.M | re.S), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_leads_to_a_file_and_a_heading_that_are_there(name):
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", read(name)):
        path, _, anchor = link.partition("#")
        target = (PACK / name).parent / path if path else PACK / name
        assert target.exists() and (not anchor or anchor in anchors(target.read_text(encoding="utf-8"))), link


def test_headings_become_anchors_as_github_makes_them():
    text = "# What `a_b` is, and why (1.0)\n```\n# a comment\n```\n## A. B\n"
    assert anchors(text) == {"what-a_b-is-and-why-10", "a-b"}


def test_the_readme_lists_every_node_under_the_name_that_the_front_end_shows():
    nodes = json.loads(read("locales/en/nodeDefs.json")).values()
    shown = {node["display_name"].removesuffix(" (DepthFM)") for node in nodes}
    assert sorted(first_column(read("README.md"), "node")) == sorted(shown)


def test_the_readme_has_a_newcomer_choose_a_photo_since_that_of_comfyui_is_a_drawing():
    steps = read("README.md").partition("## ComfyUI")[2].partition("| node |")[0]
    assert re.search(r"drop a photo of yours on \*Load Image\*.*`example\.png`", steps)
    assert "`depthfm_core/examples/room.jpg` under the name `example.png`" in steps  # what docs/workflow.jpg shows


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


def test_the_ci_run_ends_with_the_documented_test_command():
    (documented,) = re.findall(r"^python -m pytest.*$", read("README.md"), re.MULTILINE)
    commands = [line for line in read(".ci/run").splitlines() if line and not line.startswith("#")]
    assert commands[-1] == documented
    assert f"\n{documented}\n" in read("CONTRIBUTING.md")


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


def test_the_readmes_python_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(0).integers(256, size=(48, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save("photo.jpg")
    for name, code in zip("ab", re.findall(r"^```python\n(.*?)^```", read("README.md"), re.M | re.S), strict=True):
        Path(f"{name}.py").write_text(code, encoding="utf-8")
    prediction = runpy.run_path("a.py")["prediction"]
    assert prediction.uncertainty.amax() > 0 and read_image("photo_color.png").shape == (1, 3, 48, 64)
    assert np.load("photo_depth.npy").shape == (48, 64)
    depth_m = 2 * prediction.log_depth.exp()
    given = {"prediction": prediction, "measured": depth_m.where(prediction.depth > 0.5, 0.0)[0, 0].numpy()}
    torch.testing.assert_close(runpy.run_path("b.py", given)["depth_m"], depth_m, rtol=1e-3, atol=0)


def test_what_the_commands_on_benchmarks_read_was_extracted_or_fetched_by_lines_above_them():
    text = read("docs/benchmarks.md")
    lines = [line.split() for line in re.findall(r"^(?:mkdir|tar|git|python) .+$", text, re.MULTILINE)]
    extracted, fetched, measured = set(), set(), 0
    for words in lines:
        if words[0] == "tar":
            assert words[words.index("-C") + 1] in extracted and f"/{words[2]}`" in text
        extracted |= set(words[1:]) if words[0] == "mkdir" else set()
        fetched |= {words[-1].rpartition("/")[2]} if words[0] == "git" else set()
        if "--root" in words:
            root, split = (words[words.index(option) + 1] for option in ("--root", "--split"))
            measured += 1
            assert root in extracted and any(line[0] == "tar" and line[-1] == root for line in lines)
            assert Path(split).parts[0] in fetched and f"`{split.partition('/data_split/')[2]}`" in text
    assert measured >= 15


def test_the_short_road_through_training_leads_from_frames_to_a_picture(tmp_path, monkeypatch):
    commands = read("README.md").partition("## Train")[2].partition("```bash")[2].partition("```")[0].splitlines()
    synth, train, predict = (shlex.split(line)[3:] for line in commands if "depthfm_core" in line)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stages, "_CALIBRATED_FRAMES", 1)
    synth[synth.index("--count") + 1] = "9"  # one more than are held out
    Image.new("RGB", (64, 48), "gray").save(predict[1])
    for command in ([*synth, "--size", "48", "64"], [*train, "--steps", "1"], [*predict, "--steps", "1"]):
        assert main(command) == 0, command
    assert read_image("depth/photo_color.png").shape == (1, 3, 48, 64)


def test_changelog_and_citation_are_of_this_version():
    version = depthfm_core.__version__
    assert re.findall(r"^## (.+)$", read("CHANGELOG.md"), re.MULTILINE)[:2] == ["Unreleased", version]
    citation = yaml.safe_load(read("CITATION.cff"))
    assert citation["version"] == version
    assert f'authors = [{{ name = "{citation["authors"][0]["name"]}" }}]' in read("pyproject.toml")


def test_the_notices_name_every_color_map_that_is_not_ours():
    named = {name.strip(" `") for cell in first_column(read("NOTICE.md"), "map") for name in cell.split(",")}
    assert named == set(COLORMAPS) - {"gray"}

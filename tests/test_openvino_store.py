"""The folder of converted graphs: each is made once, damage is made good, and it stays within its bound."""

import os
import sys
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch

pytest.importorskip("openvino")
from depthfm_core.backends import choice, conversion, openvino_networks, store  # noqa: E402


def entries(folder):
    return sorted(path for path in folder.iterdir() if path.is_dir())


def size_of(folder):
    return sum(file.stat().st_size for file in folder.iterdir())


def test_pytorchs_weights_are_let_go_once_they_are_converted(tmp_path):
    module = torch.nn.Linear(50, 50)
    weight = weakref.ref(module.weight)
    store.GraphStore(tmp_path).graph("linear", {}, partial(conversion._convert, module, torch.zeros(1, 50)), half=False)
    assert weight() is not None  # held by `module`
    del module
    assert weight() is None


@pytest.mark.parametrize("damage", ["truncated weights", "no weights", "garbage", "no graph"])
def test_a_damaged_entry_is_made_again(tmp_path, damage):
    kept = store.GraphStore(tmp_path)
    expected = values_of(kept.graph("linear", {}, tiny_graph, half=False))
    (entry,) = entries(tmp_path)
    if damage == "truncated weights":
        os.truncate(entry / "graph.bin", 1000)
    elif damage == "garbage":
        (entry / "graph.xml").write_text("<net", encoding="ascii")
    else:
        (entry / ("graph.bin" if damage == "no weights" else "graph.xml")).unlink()
    assert torch.equal(values_of(kept.graph("linear", {}, tiny_graph, half=False)), expected)
    assert torch.equal(values_of(kept.graph("linear", {}, lambda: 1 // 0, half=False)), expected)


@pytest.mark.parametrize("text", ["[", "[]", "null"])
def test_damaged_digests_are_computed_again(tmp_path, text):
    (tmp_path / "digests.json").write_text(text, encoding="ascii")
    weights, source = {"a": torch.arange(3)}, tmp_path / "model"
    source.touch()
    assert store.GraphStore(tmp_path).digest(weights, source) == store.tensor_digest(weights)


def test_a_digest_is_remembered_until_a_file_changes(tmp_path):
    source, kept = tmp_path / "model", store.GraphStore(tmp_path / "openvino")
    found = []
    # The second is not looked at, since no file changed; the last one is of the same size.
    for values, content, changed_s in ((1, "a", 1), (2, "a", 1), (3, "ab", 1), (4, "ba", 2)):
        source.write_text(content, encoding="ascii")
        os.utime(source, (changed_s, changed_s))
        found.append(kept.digest({"a": torch.full((3,), values)}, source))
    assert found == [store.tensor_digest({"a": torch.full((3,), values)}) for values in (1, 1, 3, 4)]


def test_a_digest_depends_on_names_shapes_types_and_values():
    one = torch.arange(6.0)
    given = [{"a": one}, {"b": one}, {"a": one.view(2, 3)}, {"a": one.half()}, {"a": one + 1}, {"a": one[0]}]
    assert len({store.tensor_digest(tensors) for tensors in given}) == len(given)


def test_the_folder_stays_within_its_bound_and_what_was_used_last_stays(tmp_path):
    store.GraphStore(tmp_path).graph("first", {}, tiny_graph, half=False)
    kept = store.GraphStore(tmp_path, max_bytes=int(2.5 * size_of(entries(tmp_path)[0])))
    for part in ("second", "first", "third"):
        time.sleep(0.02)
        kept.graph(part, {}, tiny_graph, half=False)
    assert [entry.name.partition("-")[0] for entry in entries(tmp_path)] == ["first", "third"]


def test_what_killed_processes_left_is_removed_after_a_day(tmp_path):
    for name, age_s in ((".old.tmp", 90_000), (".new.tmp", 0)):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (time.time() - age_s,) * 2)
    store.GraphStore(tmp_path).graph("first", {}, tiny_graph, half=False)
    assert [entry.name for entry in entries(tmp_path) if entry.name.startswith(".")] == [".new.tmp"]


def test_a_conversion_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError):
        store.GraphStore(tmp_path).graph("first", {}, lambda: 1 // 0, half=False)
    assert entries(tmp_path) == []


def test_as_many_sizes_stay_compiled_as_fit_and_at_least_one(monkeypatch):
    for bound, expected in ((2**30, 2), (1, 1)):
        monkeypatch.setattr(openvino_networks, "_COMPILED_BYTES", bound)
        graph = openvino_networks.SizedGraph((tiny_graph(), torch.float32))
        for side in (1, 2, 1):
            assert graph(torch.ones(side, 50)).shape == (side, 50)
        assert len(graph._compiled) == expected


def test_threads_that_share_a_graph_get_each_their_own_answer():
    graph = openvino_networks.SizedGraph((tiny_graph(), torch.float32))
    inputs = [torch.full((64, 50), float(value)) for value in range(8)]
    expected = [graph(one) for one in inputs]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            assert all(map(torch.equal, pool.map(graph, inputs), expected))


def tiny_graph():
    torch.manual_seed(0)
    return conversion._convert(torch.nn.Linear(50, 50), torch.zeros(1, 50))


def values_of(graph):
    return openvino_networks.SizedGraph((graph, torch.float32))(torch.ones(1, 50))


def test_what_another_process_stored_meanwhile_stays_in_its_place(tmp_path):
    def slowly():
        store.GraphStore(tmp_path).graph("first", {}, tiny_graph, half=False)
        stored.append(written(entries(tmp_path)[0]))
        return tiny_graph()

    def written(entry):  # not the folder's own time, which says when it was last used
        return (entry / "graph.xml").stat().st_ino, (entry / "graph.xml").stat().st_mtime_ns

    stored = []
    assert store.GraphStore(tmp_path).graph("first", {}, slowly, half=False).get_ops()
    assert [written(entry) for entry in entries(tmp_path)] == stored


def test_what_was_just_made_stays_though_it_is_larger_than_the_bound(tmp_path):
    store.GraphStore(tmp_path, max_bytes=1).graph("large", {}, tiny_graph, half=False)
    assert len(entries(tmp_path)) == 1


def test_another_precision_and_another_openvino_have_graphs_of_their_own(tmp_path, monkeypatch):
    kept = store.GraphStore(tmp_path)
    for half in (False, True):
        kept.graph("linear", {}, tiny_graph, half=half)
    monkeypatch.setattr(store.openvino, "get_version", lambda: "another")
    kept.graph("linear", {}, tiny_graph, half=False)
    assert len(entries(tmp_path)) == 3


def test_the_newest_digests_are_remembered(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "_MAX_DIGESTS", 2)
    kept, sources = store.GraphStore(tmp_path / "openvino"), [tmp_path / name for name in "abc"]
    for value, source in enumerate(sources):
        source.touch()
        kept.digest({"a": torch.full((3,), value)}, source)
    assert kept.digest({"a": torch.zeros(5)}, sources[2]) == store.tensor_digest({"a": torch.full((3,), 2)})


def test_a_graph_that_does_not_read_back_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(store.openvino, "save_model", lambda _graph, path, **_how: path.write_text("<net", "ascii"))
    with pytest.raises(OSError, match="what was written does not read back"):
        store.GraphStore(tmp_path).graph("linear", {}, tiny_graph, half=False)
    assert entries(tmp_path) == []


@pytest.mark.parametrize("name", ["attention", "autoencoders", "codec", "lean", "parameterization", "unet"])
def test_graphs_of_other_code_are_not_taken(tmp_path, monkeypatch, name):
    before = conversion.code_digest.__wrapped__()
    changed = tmp_path / "changed.py"
    changed.write_text("# what computes something else")
    monkeypatch.setattr(getattr(conversion, f"{name}_code"), "__file__", str(changed))
    assert conversion.code_digest.__wrapped__() != before


@pytest.mark.parametrize("package", ["torch", "diffusers"])
def test_graphs_of_other_packages_are_not_taken(monkeypatch, package):
    before = conversion.code_digest.__wrapped__()
    monkeypatch.setattr(getattr(conversion, package), "__version__", "another")
    assert conversion.code_digest.__wrapped__() != before


def test_where_openvino_cannot_be_imported_auto_is_pytorch(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)  # Python's own mark of a module that must not be imported
    monkeypatch.setattr(choice.importlib.util, "find_spec", lambda _name: object())
    assert choice.choose_backend("auto", torch.device("cpu"), "plain", 10**9) == "torch"

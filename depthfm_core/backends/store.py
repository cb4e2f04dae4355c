"""Converted graphs on disk, so that a model is converted once.

An entry is a folder with OpenVINO's graph.xml and graph.bin, named by a digest of everything that went into it. It
fits every picture size: giving a graph its size and compiling it takes seconds, and the weights are mapped from disk,
while a compiled model on disk would be as large as the weights, for each size again.
"""

import gc
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import openvino
from torch import Tensor

from ..model.catalog import cache_folder
from ..model.digest import tensor_digest
from ..replacing import ABANDONED_AFTER_S, remove_folder, replacing, replacing_folder

MAX_BYTES = 16 * 2**30
_DIGESTS = "digests.json"
_MAX_DIGESTS = 64
_LOGGER = logging.getLogger(__name__)


class GraphStore:
    """A folder of converted graphs.

    Args:
        folder: where; made when something is stored. By default beside the downloaded models.
        max_bytes: what the entries may take together; the one used longest ago goes first.
    """

    def __init__(self, folder: Path | None = None, max_bytes: int = MAX_BYTES) -> None:
        self.folder = folder or cache_folder("openvino")
        self.max_bytes = max_bytes

    def graph(
        self, part: str, facts: Mapping[str, object], convert: Callable[[], openvino.Model], *, half: bool
    ) -> openvino.Model:
        """A graph, mapped from disk; converted and stored first where it is missing or damaged.

        Args:
            part: what it computes, in a word, for people who look into the folder.
            facts: all that it was made from, in what JSON can say.
            convert: makes it.
            half: whether its weights are stored in float16, which is finer than the bfloat16 that they are used in.

        Raises:
            OSError: when the folder cannot be written.
        """
        text = json.dumps({"facts": facts, "half": half, "openvino": openvino.get_version()}, sort_keys=True)
        entry = self.folder / f"{part}-{hashlib.sha256(text.encode()).hexdigest()[:32]}"
        return _read(entry) or self._stored(entry, convert, half)

    def _stored(self, entry: Path, convert: Callable[[], openvino.Model], half: bool) -> openvino.Model:
        _LOGGER.info("Converting for OpenVINO, once for this model and kind of precision, into %s", entry)
        graph = convert()
        quicker = _read(entry)  # another process's, which must not vanish while that one opens it
        if quicker is not None:
            return quicker
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with replacing_folder(entry) as temporary:
                openvino.save_model(graph, temporary / "graph.xml", compress_to_fp16=half)
                if _read(temporary) is None:
                    raise OSError("what was written does not read back")
        except (OSError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise OSError(
                f"{entry} cannot be written ({reason}); free some space, name another folder in DEPTHFM_HOME, or take "
                "--backend torch."
            ) from error
        del graph
        gc.collect()  # a traced module refers to itself, and would keep PyTorch's weights in memory
        with suppress(OSError):  # another process may be removing the same
            self._evict(keep=entry)
        found = _read(entry)
        if found is None:
            raise OSError(f"{entry} was replaced by another process while it was read; try again.")
        return found

    def _evict(self, keep: Path) -> None:
        """Removes what was used longest ago until the rest fits, and what killed processes left."""
        total = 0
        for entry in sorted((e for e in self.folder.iterdir() if e.is_dir()), key=_last_use, reverse=True):
            if entry.name.startswith("."):  # being written, or abandoned
                if time.time() - _last_use(entry) > ABANDONED_AFTER_S:
                    shutil.rmtree(entry, ignore_errors=True)
                continue
            total += sum(file.stat().st_size for file in entry.iterdir())
            if entry != keep and total > self.max_bytes:
                with suppress(OSError):  # another process reads it, or removes it
                    remove_folder(entry)

    def digest(self, tensors: Mapping[str, Tensor], source: Path) -> str:
        """`tensor_digest` of a model's tensors, remembered as long as its files' sizes and times stay as they are.

        Args:
            tensors: what was read from `source`.
            source: a file or a folder.
        """
        files = sorted(f for f in source.rglob("*") if f.is_file()) if source.is_dir() else [source]
        stamp = json.dumps([(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in files])
        stamp = hashlib.sha256(stamp.encode()).hexdigest()
        known = self._digests()
        if stamp not in known:
            known[stamp] = tensor_digest(tensors)
            self._remember(dict(list(known.items())[-_MAX_DIGESTS:]))
        return known[stamp]

    def _digests(self) -> dict[str, str]:
        try:
            known = json.loads((self.folder / _DIGESTS).read_text(encoding="ascii"))
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}

    def _remember(self, known: dict[str, str]) -> None:
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            with replacing(self.folder / _DIGESTS) as temporary:
                temporary.write_text(json.dumps(known), encoding="ascii")


def _read(entry: Path) -> openvino.Model | None:
    """The graph of an entry, which counts as used now; None when it is missing or damaged."""
    if not (entry / "graph.xml").is_file():
        return None
    try:
        graph = openvino.Core().read_model(entry / "graph.xml")
    except RuntimeError as error:
        _LOGGER.warning("%s is damaged and is made again (%s)", entry, str(error).splitlines()[0])
        return None
    with suppress(OSError):
        os.utime(entry)
    return graph


def _last_use(entry: Path) -> float:
    return entry.stat().st_mtime

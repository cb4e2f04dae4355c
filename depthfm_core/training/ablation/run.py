"""Runs the ablations: data, image priors and teacher, then every arm with every seed. What is there is not done again.

OUTPUT/settings.json           what all of it was made with
OUTPUT/frames, OUTPUT/latents  see `data`
OUTPUT/priors/SEED, OUTPUT/teacher, OUTPUT/arms/NAME-SEED    trainings, each of which resumes
OUTPUT/scores/NAME-SEED.json   what an arm reached
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from tqdm import tqdm

from ...evaluation.table import describe_changes
from ...model.writing import save_tensors
from ...replacing import write_json
from ...share import this_share
from ...workers import start_network_worker
from ..velocity import FlowSettings, train_velocity
from . import data
from .arms import ARMS, BASE, AblationSettings, arms_of
from .networks import Teacher, build_arm_network, loop_settings, train_prior, train_teacher
from .scores import measure_arm, scores_path, write_scores

Job = Callable[[], None]


def run_ablation(settings: AblationSettings, experiments: Sequence[str], output: Path, workers: int) -> None:
    """Trains and measures all arms of some experiments.

    Args:
        settings: budget and data.
        experiments: keys of `EXPERIMENTS`.
        output: folder for everything; made if missing.
        workers: how many trainings run at a time, each with one thread; 1 leaves PyTorch its threads.

    Raises:
        ValueError: an unknown experiment, less than one worker, several processes, or a folder that was begun with
            other settings.
        ImportError: when scenes have to be rendered and the generator's libraries are missing.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}; choose at least 1.")
    if this_share().count > 1:
        raise ValueError("The ablations start their own processes; run them as one process, with workers.")
    names = arms_of(experiments)
    _claim_folder(settings, output)
    data.render(settings, output, workers)
    data.write_codec(output)
    data.write_scene_latents(settings, output)
    seeds = range(settings.seeds)
    ahead = {_prior_path(output, seed): partial(_prior, settings, output, seed) for seed in seeds}
    pseudo = any(ARMS[name].pseudo_share for name in names)
    if pseudo:
        ahead[_teacher_path(output)] = partial(_teacher, settings, output)
    _run_missing(ahead, "image priors and teacher", workers)
    if pseudo:
        _label(settings, output)
    arms = [(name, seed) for seed in seeds for name in names]
    calls = {scores_path(output, *arm): partial(_arm, settings, output, *arm) for arm in arms}
    _run_missing(calls, "arms", workers)


def _claim_folder(settings: AblationSettings, output: Path) -> None:
    path = output / "settings.json"
    if path.exists():
        changed = describe_changes(json.loads(path.read_text(encoding="utf-8")), asdict(settings))
        if changed:
            raise ValueError(f"{output} was begun with other settings ({changed}); choose another folder.")
    output.mkdir(parents=True, exist_ok=True)
    write_json(path, asdict(settings))


def _run_missing(jobs: Mapping[Path, Job], what: str, workers: int) -> None:
    """Runs the jobs whose result is not there."""
    missing = [job for path, job in jobs.items() if not path.exists()]
    bar = tqdm(initial=len(jobs) - len(missing), total=len(jobs), desc=what, unit="training")
    if workers == 1 or not missing:
        for job in missing:
            job()
            bar.update()
        return
    with (
        _without_inner_bars(),
        ProcessPoolExecutor(min(workers, len(missing)), get_context("spawn"), start_network_worker) as pool,
    ):
        try:
            for done in as_completed([pool.submit(job) for job in missing]):
                done.result()
                bar.update()
        except BaseException:  # not after hours of what would be thrown away
            pool.shutdown(cancel_futures=True)
            raise


@contextmanager
def _without_inner_bars() -> Iterator[None]:
    """Processes that start in here show no bars of their own, which would write over each other's lines."""
    os.environ["TQDM_DISABLE"] = "1"
    try:
        yield
    finally:
        del os.environ["TQDM_DISABLE"]


def _prior(settings: AblationSettings, output: Path, seed: int) -> None:
    path = _prior_path(output, seed)
    save_tensors(train_prior(settings, data.latents_of(ARMS[BASE], output), seed, path.parent), path)


def _prior_path(output: Path, seed: int) -> Path:
    return output / "priors" / str(seed) / "network.safetensors"


def _teacher(settings: AblationSettings, output: Path) -> None:
    path = _teacher_path(output)
    save_tensors(train_teacher(settings, data.teacher_latents(output), path.parent).unet.state_dict(), path)


def _teacher_path(output: Path) -> Path:
    return output / "teacher" / "network.safetensors"


def _label(settings: AblationSettings, output: Path) -> None:
    network = build_arm_network(settings, 0, _teacher_path(output))
    data.label_photographs(Teacher(network, data.read_codec(output)), output)
    data.write_photograph_latents(settings, output)


def _arm(settings: AblationSettings, output: Path, name: str, seed: int) -> None:
    arm, codec, started = ARMS[name], data.read_codec(output), time.monotonic()
    network = build_arm_network(settings, seed, _prior_path(output, seed) if arm.prior else None)
    held_out = data.held_out(settings, output, codec)
    flow = FlowSettings((name,), loop_settings(settings, settings.num_steps, seed), noising_step=arm.noising_step)
    folder = output / "arms" / f"{name}-{seed}"
    train_velocity(network, data.latents_of(arm, output), flow, held_out["rendered"], codec, folder)
    seconds = time.monotonic() - started
    write_scores(scores_path(output, name, seed), measure_arm(network, arm, codec, held_out), seconds)

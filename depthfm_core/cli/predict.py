"""`predict`: depth maps of pictures.

A picture that cannot be estimated is reported and the others go on, as a long batch should; the exit code tells.
"""

import argparse
import errno
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from tqdm import tqdm

from ..depth.files import import_openexr, read_photo
from ..flow import SolverProgress
from ..model.catalog import EXAMPLE_PHOTO
from ..pipeline import DepthFMPipeline
from ..replacing import is_same
from ..settings import EstimationSettings
from . import import_networks
from .arguments import add_estimation_arguments, add_model_arguments, estimation_settings, pipeline_from
from .errors import BAD_INPUT, USER_ERRORS, sentence
from .idle import idle_options
from .inputs import expand_wildcards, find_images, unread_photos
from .outputs import OUTPUTS, describe_outputs, output_paths, write_outputs
from .views import OF_CAMERA, ViewOptions, add_view_arguments, view_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = describe_outputs()
    parser.add_argument(
        "inputs",
        nargs="*",
        type=Path,
        metavar="IMAGE_OR_FOLDER",
        help="pictures, and folders whose pictures are all taken (those in folders inside with --recursive); "
        "default: an example",
    )
    parser.add_argument(
        "--recursive",
        action="store_true",
        help="take the pictures in folders inside too, but not in hidden or linked ones or that of --output; results "
        "go into folders of the same names: those of holiday/2024/a.jpg into depth/2024 where holiday is given",
    )
    _add_output_arguments(parser)
    add_estimation_arguments(parser)
    add_model_arguments(parser)


def _add_output_arguments(parser: argparse.ArgumentParser) -> None:
    output = parser.add_argument_group("output")
    output.add_argument("--output", type=Path, default=Path("depth"), metavar="DIR", help="folder (default: depth)")
    output.add_argument(
        "--save",
        type=_kinds,
        default="depth16,color",
        metavar="LIST",
        help="of the kinds below (default: depth16,color)",
    )
    add_view_arguments(output)


def run(args: argparse.Namespace) -> int:
    """Writes what was asked for; 0, or 2 when some picture failed.

    Raises:
        ValueError, OSError: for an option, input or model that cannot be used, before anything is written.
    """
    args.inputs = expand_wildcards(args.inputs)
    images = find_images(args.inputs or [EXAMPLE_PHOTO], args.output, recursive=args.recursive)
    settings = estimation_settings(args)
    views = view_options(args)
    _check_output(args, images, settings)
    unread = unread_photos(args.inputs, args.output, recursive=args.recursive)
    for told in (*idle_options(args, len(images)), *unread):
        tqdm.write(f"depthfm: {told}", file=sys.stderr)
    import_networks(args, compiled=args.compile)
    pipeline = pipeline_from(args)
    for folder in _result_folders(args.output, images):
        _check_folder(folder)
    if any(is_same(folder, args.output) for folder in {image.parent for image in images}):
        told = f"depthfm: the results lie among the pictures in {args.output}; next time name pictures, not the folder."
        tqdm.write(told, file=sys.stderr)
    failures = 0
    with tqdm(images.items(), unit="image", disable=None) as bar:
        for index, (path, name) in enumerate(bar):
            try:
                _predict_one(path, name, pipeline, settings.from_image(index), views, args, CallCount(bar))
            except BrokenPipeError:  # no fault of the picture's: who reads the lines has seen enough
                raise
            except USER_ERRORS as error:
                if args.traceback:
                    raise
                failures += 1
                tqdm.write(f"depthfm: {_about(path, error)}", file=sys.stderr)
    return BAD_INPUT if failures else 0


class CallCount:
    """Counts network calls over the chunks of one picture; an `on_step` of the pipeline that moves a progress bar."""

    def __init__(self, bar: tqdm) -> None:
        self.total = 0
        self._earlier_chunks = 0
        self._bar = bar

    def __call__(self, progress: SolverProgress) -> None:
        if progress.step == 1:
            self._earlier_chunks = self.total
        self.total = self._earlier_chunks + progress.num_calls
        self._bar.set_postfix(network_calls=self.total)


def _kinds(text: str) -> tuple[str, ...]:
    """`--save`, as keys of `OUTPUTS` without repetition."""
    kinds = tuple(dict.fromkeys(kind.strip() for kind in text.split(",")))
    unknown = [kind for kind in kinds if kind not in OUTPUTS]
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown {unknown[0]!r} in {text!r}; choose from {', '.join(OUTPUTS)}")
    return kinds


def _check_output(args: argparse.Namespace, images: Mapping[Path, str], settings: EstimationSettings) -> None:
    """What would only be noticed after the first picture's estimation."""
    if "uncertainty" in args.save and settings.ensemble_size < 2:
        raise ValueError("Uncertainty is how far several runs differ; add --ensemble 2 or more (5 to 10 are usual).")
    if "exr" in args.save:
        import_openexr()
    if args.output.exists() and not args.output.is_dir():
        raise ValueError(f"--output {args.output} is a file; name a folder.")
    if any(_is_searched(args.output, images, path) for path in args.inputs if path.is_dir()):
        raise ValueError(
            f"--output {args.output} brings the results into the folder of the pictures, where they would be taken for "
            "pictures the next time; name another folder."
        )
    _check_results({image: output_paths(args.save, args.output / name) for image, name in images.items()})


def _is_searched(output: Path, images: Mapping[Path, str], folder: Path) -> bool:
    """Whether results lie in a folder of pictures and are not left out, as they are of one that `output` lies in."""
    return _lies_in(folder, output) and any(_lies_in(result, folder) for result in _result_folders(output, images))


def _lies_in(path: Path, folder: Path) -> bool:
    """Whether a path that may not be there yet is a folder or leads into it."""
    path = path.resolve()
    return any(is_same(part, folder) for part in (path, *path.parents))


def _result_folders(output: Path, images: Mapping[Path, str]) -> list[Path]:
    return sorted({(output / name).parent for name in images.values()})


def _check_results(results: Mapping[Path, Sequence[Path]]) -> None:
    """That no file of a picture's would take the place of another's, or of a picture."""
    owners: dict[str, Path] = {}
    for image, paths in results.items():
        for path in paths:
            other = owners.setdefault(str(path.resolve()).casefold(), image)
            if other is not image:
                raise ValueError(
                    f"{other} and {image} would both be saved as {path.name}; rename one, or run them one at a time "
                    "with another --output."
                )
    for image in results:
        if str(image.resolve()).casefold() in owners:
            raise ValueError(f"A result would be written over the picture {image}; name another --output.")


def _check_folder(output: Path) -> None:
    """Finds out whether a folder can be made and written to, and leaves nothing behind.

    Raises:
        ValueError: naming it, if not.
    """
    folder = Path(os.path.abspath(output))
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Not a `TemporaryFile`, which on Windows tries thousands of names in a folder that it must not write to.
        probe = folder / f".depthfm-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(f"--output {output} cannot be written to ({error.strerror}); name another folder.") from error
    finally:
        for path in missing:
            with suppress(OSError):  # where another process has put something into it
                path.rmdir()


def _predict_one(
    path: Path,
    name: str,
    pipeline: DepthFMPipeline,
    settings: EstimationSettings,
    views: ViewOptions,
    args: argparse.Namespace,
    calls: CallCount,
) -> None:
    """Writes the files of one picture; prints a line for each that is there, and one for the picture."""
    start = time.perf_counter()
    image, fov_deg = read_photo(path)
    prediction = pipeline(image, settings, on_step=calls)
    for file in write_outputs(prediction, image, args.save, views.of_photo(fov_deg), args.output / name):
        _tell(str(file))
    seconds = time.perf_counter() - start
    height, width = image.shape[2:]
    by_exif = fov_deg is not None and views.takes_fov_of_photo and set(OF_CAMERA) & set(args.save)
    camera = f" field of view {fov_deg:.1f} degrees by EXIF," if by_exif else ""
    _tell(f"{path}: {width} x {height} pixels,{camera} {seconds:.2f} s, {calls.total} network calls")


def _tell(line: str) -> None:
    """Prints a line of the results."""
    try:
        tqdm.write(line)
    except OSError as error:
        if error.errno == errno.EINVAL:  # what Windows says of a closed pipe (python/cpython issue 79935)
            raise BrokenPipeError(errno.EPIPE, "The reader of the lines is gone") from error
        raise


def _about(path: Path, error: BaseException) -> str:
    """The error's sentence, which names the picture."""
    text = sentence(error)
    return text if str(path) in text else f"{path}: {text}"

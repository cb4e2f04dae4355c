"""`download`: a published model and the autoencoder that it needs, into the user's cache folder or another one.

Each part is fetched beside its place and moved there when it is complete, so that a part that is there is whole.
"""

import argparse
import errno
import shutil
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from ssl import SSLError

from tqdm import tqdm

from ..model.catalog import DOWNLOADS, Download, cache_folder
from ..model.checkpoints import load_checkpoint
from ..model.reading import CheckpointError
from ..replacing import ABANDONED_AFTER_S, remove_leftovers, replacing, replacing_folder
from .errors import DISK_FULL

_TIMEOUT_SECONDS = 60
_OF_THE_DISK = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, *DISK_FULL}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", choices=tuple(DOWNLOADS), metavar="MODEL", help=f"one of {', '.join(DOWNLOADS)}")
    parser.add_argument(
        "--folder", type=Path, metavar="DIR", help="where to put it (default: where `predict --model MODEL` looks)"
    )


def run(args: argparse.Namespace) -> int:
    """Fetches what is not there yet and returns 0.

    Raises:
        OSError: without a network, when the download breaks off, or for a folder that cannot be written.
        ValueError: when what came is no such model.
    """
    download = DOWNLOADS[args.model]
    folder = args.folder or cache_folder(args.model)
    print(f"{args.model} ({download.licence})")
    print(f"from   {download.url}\n       {_vae_url(download)}\ninto   {folder}")
    file = folder / download.file_name
    if not file.exists():
        fetch_checkpoint(download.url, file)
    print(file)
    if not (folder / "vae").exists():
        fetch_autoencoder(download, folder / "vae")
    print(folder / "vae")
    names_it = f"--model {args.model}" if args.folder is None else f"--model {file} --vae {folder / 'vae'}"
    print(f"Use it with `python -m depthfm_core predict {names_it}`.")
    return 0


def fetch_checkpoint(url: str, file: Path) -> None:
    """Puts the file of a URL in its place, once it is complete and proved to be a checkpoint."""
    with _reported(url, file), urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response:
        size = int(response.headers.get("Content-Length") or 0)
        _make_place(file)
        with replacing(file, durable=True) as temporary:
            with temporary.open("wb") as target, _progress(target, size) as counted:
                shutil.copyfileobj(response, counted, 2**20)
            if size and temporary.stat().st_size != size:
                raise OSError(f"the connection ended after {temporary.stat().st_size:,} of {size:,} bytes")
            load_checkpoint(temporary)


def fetch_autoencoder(download: Download, folder: Path) -> None:
    """Puts the autoencoder's folder in its place: config.json and the safetensors, once they can be loaded."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import HfHubHTTPError

    from ..model.codec import load_codec

    wanted = ["config.json", "*.safetensors"]
    # Connections that break are HTTPError's subclasses: httpx's or requests', whichever the installed version uses.
    with _reported(_vae_url(download), folder, HfHubHTTPError.__bases__):
        _make_place(folder)
        with replacing_folder(folder) as temporary:
            snapshot_download(download.vae_repository, allow_patterns=wanted, local_dir=temporary)
            load_codec(temporary)
            shutil.rmtree(temporary / ".cache", ignore_errors=True)


def _vae_url(download: Download) -> str:
    return f"https://huggingface.co/{download.vae_repository}"


def _progress(target: object, size: int) -> tqdm:
    return tqdm.wrapattr(target, "write", total=size or None, disable=None, unit="B", unit_scale=True)


@contextmanager
def _reported(url: str, place: Path, also: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turns what goes wrong into one sentence that says how to do without this machine's network."""
    try:
        yield
    except CheckpointError as error:
        raise ValueError(f"What came from {url} is not the model ({error})") from error
    except (OSError, HTTPException, *also) as error:
        reason = str(error).strip("<>").partition("\n")[0]
        if getattr(error, "errno", None) in _OF_THE_DISK and not isinstance(error, SSLError):  # which has own numbers
            raise OSError(f"{place} cannot be written ({reason}); name another place with --folder.") from error
        raise OSError(
            f"{url} could not be fetched ({reason}); try again, or fetch it on another machine and put it at {place}."
        ) from error


def _make_place(place: Path) -> None:
    """Its folder, without what downloads left there that were killed long ago."""
    place.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(place, after_s=ABANDONED_AFTER_S)

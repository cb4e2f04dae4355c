"""`python -m depthfm_core COMMAND`: reads the command line and turns errors into one sentence and exit code 2."""

import argparse
import io
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from . import __version__
from .cli import COMMANDS
from .cli.errors import BAD_INPUT, USER_ERRORS, sentence
from .cli.streams import open_closed_streams
from .quick_imports import quick_imports

INTERRUPTED, BROKEN_PIPE = 130, 141  # 128 + SIGINT and 128 + SIGPIPE, as shells report them
_INTERRUPTED = "depthfm: interrupted."
_ESTIMATING = ("predict", "label", "evaluate")


class _Parser(argparse.ArgumentParser):
    """Without argparse's usage lines before an error, and without guessing at abbreviated options."""

    def __init__(self, **settings: object) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **settings)

    def error(self, message: str) -> NoReturn:
        """Raises ValueError, which `main` reports like any other bad input."""
        raise ValueError(f"{message}; see `{self.prog} --help`.")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code: 0, 2 for bad input, 130 for an interrupt, 141 for a closed pipe."""
    own_process = argv is None
    argv = list(sys.argv[1:] if own_process else argv)
    _prepare_streams()
    if own_process and argv and argv[0] in _ESTIMATING:
        _let_threads_sleep_soon()
    try:
        with _starting() if own_process else nullcontext():
            parser = _parser(argv)
        args = parser.parse_args(argv, argparse.Namespace(own_process=own_process))
        return args.run(args)
    except KeyboardInterrupt:
        print(_INTERRUPTED, file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `| head` has seen enough; what is still buffered goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except (ImportError, *USER_ERRORS) as error:
        if "--traceback" in argv or _is_own_module(error):
            raise
        print(f"depthfm: {sentence(error, *argv[:1])}", file=sys.stderr)
        return BAD_INPUT


@contextmanager
def _starting() -> Iterator[None]:
    """For the block imports are quick, and an interrupt ends the process at once, before which nothing was written.

    An exception would not: PyTorch imports NumPy inside of its own start, in C, and drops what is raised there.
    """
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    ours = usual and threading.current_thread() is threading.main_thread()  # no other may set a handler
    if ours:
        signal.signal(signal.SIGINT, _end_process)
    try:
        with quick_imports():
            yield
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _end_process(*_signal: object) -> NoReturn:
    print(_INTERRUPTED, file=sys.stderr, flush=True)
    os._exit(INTERRUPTED)


def _parser(argv: list[str]) -> _Parser:
    """The parser of all commands' names and of the options of the one command that is asked for."""
    as_module = Path(sys.argv[0]).parts[-2:] == (__package__, "__main__.py")
    prog = f"python -m {__package__}" if as_module else "depthfm"  # the command that an installation makes
    parser = _Parser(prog=prog, description="Monocular depth by flow matching.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary)
        if argv[:1] == [name]:
            module = import_module(f".cli.{name.replace('-', '_')}", __package__)
            command.set_defaults(run=module.run)
            module.add_arguments(command)
            command.add_argument("--traceback", action="store_true", help="show where an error comes from")
    return parser


def _prepare_streams() -> None:
    """Keeps libraries' warnings out of the output, and a file name that the console cannot show from ending a run.

    Lines are written at once, so that a log or a pipe follows a long batch.
    """
    open_closed_streams()
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")  # read when diffusers is imported
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace", line_buffering=True)


def _let_threads_sleep_soon() -> None:
    """Has PyTorch's threads spin for microseconds only while they wait for each other, unless the user says otherwise.

    GNU's OpenMP, on a CPU under Linux, has them spin for milliseconds, and a network is hundreds of short waits: beside
    any other busy process the thread that spins takes the time from the one that it waits for. It reads this once, when
    PyTorch is imported. The processes that inherit it are the compiler's.
    """
    if sys.platform == "linux" and "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")


def _is_own_module(error: BaseException) -> bool:
    """Whether a file of this package is missing, which no user can mend by installing something."""
    return isinstance(error, ImportError) and str(error.name).startswith(f"{__package__}.")


if __name__ == "__main__":
    sys.exit(main())

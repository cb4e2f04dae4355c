"""Standard streams that whoever starts a command has closed."""

import os
import sys


def open_closed_streams() -> None:
    """Leads stdin, stdout and stderr to the null device where they were closed (`2>&-`), before the first file is read.

    Python has None for such a stream, which progress bars fail on, and its number would go to the next file.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))

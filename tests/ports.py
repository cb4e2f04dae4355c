"""A port of this machine for tests that start servers and groups of processes."""

import socket


def free_port() -> int:
    """Of 127.0.0.1, taken by nobody at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]

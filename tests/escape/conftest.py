"""What of the host the attempts are made at."""

import os
import socket
import subprocess
import threading

import pytest


@pytest.fixture
def victim():
    """A process of the caller's, outside."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process
        assert process.poll() is None, "the attempt has ended it"
        process.kill()


@pytest.fixture
def listening():
    """Sockets of the host's: abstract, by path in /run or /tmp, and TCP on loopback."""
    name = f"minidocker-test-{os.getpid()}-{threading.get_ident()}"
    abstract, stream = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_INET)
    with abstract, stream:
        abstract.bind(f"\0{name}")
        abstract.listen()
        stream.bind(("127.0.0.1", 0))
        stream.listen()
        yield name, stream.getsockname()[1]

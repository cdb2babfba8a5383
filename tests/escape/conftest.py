"""The processes and sockets of the host that the attempts target."""

import os
import socket
import subprocess
import threading

import pytest


@pytest.fixture
def victim():
    """Start a process of the caller outside."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process
        assert process.poll() is None, "the attempt has killed it"
        process.kill()


@pytest.fixture
def listening():
    """Listen on an abstract socket and on TCP loopback of the host; give the name and the port."""
    name = f"minidocker-test-{os.getpid()}-{threading.get_ident()}"
    abstract, stream = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_INET)
    with abstract, stream:
        abstract.bind(f"\0{name}")
        abstract.listen()
        stream.bind(("127.0.0.1", 0))
        stream.listen()
        yield name, stream.getsockname()[1]

"""The fixtures `container` and `container_factory`."""

import subprocess
import sys
import time

import pytest

from minidocker import NotReady, SpecError

SERVER = """
import socket, sys
print("starting", flush=True)
server = socket.create_server(("127.0.0.1", 8000))
print("ready on", server.getsockname()[1], flush=True)
while True:
    connection, _ = server.accept()
    connection.sendall(b"hello")
    connection.close()
"""


def run(container, *args):
    return container.run(args, capture_output=True, text=True, check=True).stdout


@pytest.mark.smoke
@pytest.mark.needs("hostname")
@pytest.mark.minidocker_container(hostname="db")
def test_the_fixture_has_the_options_of_the_marker(container):
    assert run(container, "hostname") == "db\n"
    assert container.status == "running"


def test_a_service_can_be_waited_for(container):
    service = container.serve([sys.executable, "-c", SERVER])
    assert service.wait_for_log(r"ready on (\d+)$").group(1) == "8000"
    service.wait_for_port(8000)
    container.wait_for_port(8000, timeout=60)
    assert container.wait_for_log("starting").group() == "starting"
    assert service.output == "starting\nready on 8000\n"
    assert service.stop() == -15


def test_udp_and_ipv6_ports_can_be_waited_for(container):
    program = (
        "import socket, time; "
        "udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); udp.bind(('127.0.0.1', 53)); "
        "tcp = socket.create_server(('::1', 80), family=socket.AF_INET6); time.sleep(60)"
    )
    service = container.serve([sys.executable, "-c", program])
    service.wait_for_port(53, protocol="udp")
    service.wait_for_port(80)
    with pytest.raises(NotReady):
        container.wait_for_port(53, timeout=0)


def test_a_file_of_the_container_can_be_waited_for(container, tmp_path):
    ready = tmp_path / "ready"
    service = container.serve(["sh", "-c", f"sleep 0.1; echo yes > {ready}; sleep 60"])
    service.wait_for_file(ready)
    container.wait_for_file(ready)
    with pytest.raises(SpecError, match="give an absolute path"):
        container.wait_for_file("ready")


def test_a_timeout_is_an_error_with_the_output(container):
    service = container.serve(["sh", "-c", "echo going on; echo badly >&2; sleep 60"])
    service.wait_for_log("badly")
    started = time.monotonic()
    with pytest.raises(NotReady) as caught:
        container.wait_for_port(99, timeout=0.2)
    assert 0.2 <= time.monotonic() - started < 30
    assert "tcp port 99" in str(caught.value)
    assert "0.2 seconds" in str(caught.value)
    assert "runs and wrote:\ngoing on\nbadly\n" in str(caught.value)
    assert isinstance(caught.value, TimeoutError)


def test_the_end_of_a_service_ends_the_wait(container):
    service = container.serve(["sh", "-c", "echo no such file; exit 3"])
    started = time.monotonic()
    with pytest.raises(NotReady, match=r"ended with 3 and wrote:\nno such file"):
        service.wait_for_log("ready", timeout=60)
    assert time.monotonic() - started < 30
    # Output from before its end is found.
    assert service.wait_for_log("no such file")


def test_wrong_values_are_refused(container):
    for port in (0, 65536, "80", True):
        with pytest.raises(SpecError, match="port="):
            container.wait_for_port(port)
    with pytest.raises(SpecError, match="protocol='sctp'"):
        container.wait_for_port(80, protocol="sctp")
    with pytest.raises(SpecError, match="stdout"):
        container.serve(["true"], stdout=subprocess.PIPE)


def test_containers_of_a_factory_can_share_a_network(container_factory):
    server = container_factory(hostname="server")
    client = container_factory(network=server)
    server.serve([sys.executable, "-c", SERVER]).wait_for_port(8000)
    code = "import socket; print(socket.create_connection(('127.0.0.1', 8000)).recv(5))"
    assert run(client, sys.executable, "-c", code) == "b'hello'\n"
    assert server.spec.hostname == "server"


def test_containers_end_with_their_test_in_every_case(runs, survivors):
    result = runs(
        f"""
        import os, pytest
        ENV = {survivors.env!r}

        def test_fails(container_factory):
            boxes = [container_factory() for _ in range(3)]
            for box in boxes:
                box.serve(["sleep", "60"], env={{**os.environ, **ENV}})
            box.serve(["echo", "its output"]).wait_for_log("output")
            assert 0

        def test_is_stopped_already(container): container.stop(); container.kill()

        @pytest.mark.minidocker
        def test_nested(container):
            service = container.serve(["sh", "-c", "sleep 60"], env={{**os.environ, **ENV}})
            assert container.spec.hostname == "master-1"

        @pytest.mark.minidocker
        def test_nested_crash(container):
            container.serve(["sleep", "60"], env={{**os.environ, **ENV}})
            os._exit(1)

        @pytest.mark.minidocker_container(hostnam="typo")
        def test_wrong(container): pass
        """
    )
    assert result.parseoutcomes() == {"passed": 2, "failed": 2, "errors": 1}
    result.stdout.fnmatch_lines(
        [
            "@pytest.mark.minidocker_container: hostnam='typo': unknown option*'hostname'?",
            "*Captured output of echo 'its output' in master-3 teardown*",
            "its output",
        ]
    )

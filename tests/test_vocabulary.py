"""Well-known words of docker and subprocess are options, or are refused with their own sentence."""

import re

import pytest

import minidocker
from minidocker import Container, Popen, SpecError, run
from minidocker.__main__ import _unknown, main
from minidocker._spec.options import SUBPROCESS_KEYWORDS
from minidocker._spec.spec import FIELDS
from minidocker.cli import flags
from minidocker.cli.options import COMMANDS
from minidocker.cli.parser import UsageError, parse

# `docker run --help` of Docker 28, with the hidden names that it still takes. A flag has no value.
DOCKER_RUN = {
    **dict.fromkeys(
        (
            "-P", "-d", "-i", "-q", "-t", "--detach", "--disable-content-trust", "--init",
            "--interactive", "--no-healthcheck", "--oom-kill-disable", "--privileged",
            "--publish-all", "--quiet", "--read-only", "--rm", "--sig-proxy", "--tty",
            "--use-api-socket",
        )
    ),
    "-a": "stdout", "-c": "512", "-e": "A=1", "-h": "lab", "-l": "a=1", "-m": "64m",
    "-p": "8080:80", "-u": "0", "-v": "/usr:/mnt", "-w": "/",
    "--add-host": "db:10.0.0.1", "--annotation": "a=1", "--attach": "stdout",
    "--blkio-weight": "100", "--blkio-weight-device": "/dev/sda:100", "--cap-add": "NET_RAW",
    "--cap-drop": "ALL", "--cgroup-parent": "/x", "--cgroupns": "private", "--cidfile": "id",
    "--cpu-count": "1", "--cpu-percent": "50", "--cpu-period": "1000", "--cpu-quota": "1000",
    "--cpu-rt-period": "1", "--cpu-rt-runtime": "1", "--cpu-shares": "512", "--cpus": "0.5",
    "--cpuset-cpus": "0", "--cpuset-mems": "0", "--detach-keys": "ctrl-a", "--device": "/dev/null",
    "--device-cgroup-rule": "c 1:3 r", "--device-read-bps": "/dev/sda:1mb",
    "--device-read-iops": "/dev/sda:1", "--device-write-bps": "/dev/sda:1mb",
    "--device-write-iops": "/dev/sda:1", "--dns": "1.1.1.1", "--dns-opt": "rotate",
    "--dns-option": "rotate", "--dns-search": "example.org", "--domainname": "example.org",
    "--entrypoint": "sh", "--env": "A=1", "--env-file": "/dev/null", "--expose": "80",
    "--gpus": "all", "--group-add": "audio", "--health-cmd": "true", "--health-interval": "1s",
    "--health-retries": "1", "--health-start-interval": "1s", "--health-start-period": "1s",
    "--health-timeout": "1s", "--hostname": "lab", "--io-maxbandwidth": "1", "--io-maxiops": "1",
    "--ip": "10.0.0.2", "--ip6": "fd00::2", "--ipc": "private", "--isolation": "default",
    "--kernel-memory": "1m", "--label": "a=1", "--label-file": "labels", "--link": "db",
    "--link-local-ip": "169.254.0.1", "--log-driver": "none", "--log-opt": "a=1",
    "--mac-address": "02:00:00:00:00:01", "--memory": "64m", "--memory-reservation": "32m",
    "--memory-swap": "64m", "--memory-swappiness": "0",
    "--mount": "type=bind,source=/usr,target=/mnt", "--name": "web", "--net": "host",
    "--net-alias": "db", "--network": "none", "--network-alias": "db", "--oom-score-adj": "100",
    "--pid": "host", "--pids-limit": "100", "--platform": "linux/arm64", "--publish": "8080:80",
    "--pull": "never", "--restart": "no", "--runtime": "runc",
    "--security-opt": "no-new-privileges", "--shm-size": "64m", "--stop-signal": "TERM",
    "--stop-timeout": "1", "--storage-opt": "size=1G", "--sysctl": "net.ipv4.ip_forward=1",
    "--tmpfs": "/mnt", "--ulimit": "nofile=64", "--user": "0", "--userns": "host",
    "--uts": "host", "--volume": "/usr:/mnt", "--volume-driver": "local", "--volumes-from": "web",
    "--workdir": "/",
}  # fmt: skip

# The parameters of docker-py's `containers.run`.
DOCKER_PY = (
    "image command auto_remove blkio_weight_device blkio_weight cap_add cap_drop cgroup_parent "
    "cgroupns cpu_count cpu_percent cpu_period cpu_quota cpu_rt_period cpu_rt_runtime cpu_shares "
    "cpuset_cpus cpuset_mems detach device_cgroup_rules device_read_bps device_read_iops "
    "device_requests device_write_bps device_write_iops devices dns dns_opt dns_search domainname "
    "entrypoint environment extra_hosts group_add healthcheck hostname init init_path ipc_mode "
    "isolation kernel_memory labels links log_config mac_address mem_limit mem_reservation "
    "mem_swappiness memswap_limit mounts name nano_cpus network network_disabled network_mode "
    "networking_config oom_kill_disable oom_score_adj pid_mode pids_limit platform ports "
    "privileged publish_all_ports read_only remove restart_policy runtime security_opt shm_size "
    "stdin_open stdout stderr stop_signal storage_opt stream sysctls tmpfs tty ulimits "
    "use_config_proxy user userns_mode uts_mode volume_driver volumes volumes_from working_dir"
)
# Options of later versions, as minidocker will name them.
LATER = (
    "blkio_weight cgroup_parent cpu_shares cpus cpuset_cpus extra_hosts mem_limit mem_reservation "
    "memswap_limit network_aliases pids_limit pool ports"
)
DOCKER_COMMANDS = (
    "attach build commit compose container cp create diff events export history image images "
    "import info inspect kill load login logout logs network pause port ps pull push rename "
    "restart rm rmi run save search start stats stop tag top unpause update version volume wait"
)
VAGUE = ("did you mean", "the options are", "--help")


def test_each_option_of_docker_run_is_known_or_refused_with_a_sentence():
    known = COMMANDS["run"].spellings()
    for name, value in DOCKER_RUN.items():
        words = [name, "true"] if value is None else [name, value, "true"]
        if name in known:
            assert parse(COMMANDS["run"], words).operands == ["true"], name
        else:
            with pytest.raises(UsageError) as raised:
                parse(COMMANDS["run"], words)
            message = str(raised.value)
            assert message.startswith(f"run: unknown option {name}: ")
            assert not [words for words in VAGUE if words in message], message


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--rm=false"], "a container leaves nothing behind"),
        (["--sig-proxy=false"], "signals go on to the command"),
        (["--no-healthcheck=false"], "no daemon that checks the health"),
        (["--restart", "always"], "no daemon that restarts"),
        (["--restart=on-failure:3"], "no daemon that restarts"),
        (["--pull", "always"], "no image to pull"),
        (["--ipc", "shareable"], "expected host, or private"),
        (["-itd"], "unknown option -d (in -itd): there is no daemon"),
    ],
)
def test_a_value_that_would_change_something_is_refused(words, reason):
    with pytest.raises(UsageError, match=re.escape(reason)):
        parse(COMMANDS["run"], [*words, "true"])


@pytest.mark.parametrize("command", ["exec", "explain"])
def test_the_other_command_lines_explain_the_words_too(command):
    with pytest.raises(UsageError, match="default profile has every capability"):
        parse(COMMANDS[command], ["--privileged", "1", "true"])


def test_each_parameter_of_docker_py_is_an_option_or_refused_with_a_sentence():
    for name in {*DOCKER_PY.split(), *LATER.split()} - FIELDS - {*SUBPROCESS_KEYWORDS}:
        if name == "command":
            continue  # the first argument of run()
        with pytest.raises(SpecError) as raised:
            run(["true"], **{name: "x"})
        message = str(raised.value)
        assert message.startswith(f"{name}='x': unknown option: "), message
        assert not [words for words in VAGUE if words in message], message
        assert raised.value.option == name


BWRAP_AND_UNSHARE = [
    "bind",
    "ro-bind",
    "dev-bind",
    "unshare-all",
    "unshare-net",
    "share-net",
    "dev",
    "proc",
    "mount-proc",
    "new-session",
    "as-pid-1",
    "kill-child",
    "map-root-user",
    "map-users",
    "map-auto",
    "chdir",
    "setenv",
]


@pytest.mark.parametrize("word", BWRAP_AND_UNSHARE)
def test_an_option_of_bwrap_or_unshare_is_refused_with_a_sentence(word):
    with pytest.raises(UsageError) as refused:
        parse(COMMANDS["run"], [f"--{word}", "true"])
    with pytest.raises(SpecError) as raised:
        run(["true"], **{word.replace("-", "_"): "x"})
    start = f"run: unknown option --{word}: "
    assert str(refused.value).startswith(start)
    said = str(refused.value).removeprefix(start)
    assert {*re.findall(r"--[a-z-]+", said)} <= {*COMMANDS["run"].spellings()}
    for message in (said, str(raised.value)):
        assert not [words for words in VAGUE if words in message.lower()], message


def test_an_option_of_a_later_version_says_so():
    for name in LATER.split():
        with pytest.raises(SpecError, match="not available in this version"):
            run(["true"], **{name: "x"})


def test_a_limit_of_the_output_is_explained_where_nothing_is_captured():
    for make in (Container, minidocker.Popen, minidocker.isolated):
        with pytest.raises(SpecError, match=r"it bounds what run\(\) and communicate\(\)"):
            make(*([["true"]] if make is minidocker.Popen else []), output_limit=10)


@pytest.mark.parametrize("name", sorted({*SUBPROCESS_KEYWORDS} - FIELDS))
def test_an_option_of_a_command_is_explained_where_there_is_none(name):
    with pytest.raises(SpecError, match="it belongs to a command"):
        Container(**{name: "x"})


def test_an_option_of_run_is_explained_where_only_a_popen_is():
    for name in ("timeout", "check", "input", "capture_output"):
        with pytest.raises(SpecError, match=r"run\(\) has it"):
            Popen(["true"], **{name: 1})


def test_each_command_of_docker_is_known_or_explained():
    for name in set(DOCKER_COMMANDS.split()) - {*COMMANDS, "events", "login", "logout"}:
        assert _unknown(name).startswith(f"unknown command {name}: "), name


# --- errors of the package in the words of the command line ---------------------------------------


def test_each_keyword_of_a_container_has_a_flag_that_exists():
    known = COMMANDS["run"].spellings()
    for field in FIELDS:
        for flag in flags.flag(field).split(" or "):
            assert flag.split()[0] in known, field


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--hostname", ""], '--hostname "": it has 0 bytes'),
        (["--uts", "host", "--hostname", "x"], "leave --uts host out, or add uts to --namespaces"),
        (["--namespaces", "user", "--read-only"], "add mount to --namespaces"),
        (["--network", "none", "--namespaces", "user"], "add net to --namespaces"),
        (["--pid", "host", "--init"], "--init: only a new PID namespace"),
        (["-w", "/nosuch"], "pass another --workdir"),
        (["-u", "nosuch"], "--user 'nosuch': there is no such user"),
        (["--cap-add", "NOSUCH"], '--cap-add "NOSUCH": no capability has this name'),
        (["-v", "/nosuch:/x"], '--volume or --mount "/x": the source "/nosuch"'),
        (["--security-opt", "seccomp=/nosuch"], "--security-opt seccomp '/nosuch': No such file"),
        (["--time-offset", "boottime=99999999999"], "--time-offset: 99999999999 seconds is out of"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_error_names_options_of_the_command_line(words, message, capfd):
    assert main(["run", *words, "true"]) == 125
    shown = capfd.readouterr().err
    assert message in shown
    assert shown.count("\n") == 1
    for keyword in ("NamespaceOptions", "Seccomp", *(name for name in FIELDS if "_" in name)):
        assert keyword not in shown


def test_an_error_of_the_engine_keeps_pythons_words_elsewhere():
    with pytest.raises(SpecError, match=r"NamespaceOptions\.with_uts\(\)") as raised:
        run(["true"], hostname="x", namespaces=minidocker.NamespaceOptions.all().without_uts())
    assert raised.value.option == "hostname"

"""Well-known words of docker, docker-py, subprocess, bwrap and unshare that are no options here.

One sentence for each says why, and what to use instead. Keywords and the command line share the
sentences: ``{rootfs}`` stands for the option, which each spells in its own way.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["command_sentence", "sentence"]

_CONTROL_GROUPS = (
    "limits of control groups are not available in this version; {ulimits} limits each process"
)
_PORTS = "published ports are not available in this version; {network} shares the caller's network"
_NETWORKS = (
    "networks of several containers are not available in this version; {network} shares the "
    "caller's or that of one other container"
)
_NAMESPACE = "a namespace is new, or the caller's: {namespaces} selects which are new"
_COMMANDS = "it belongs to a command; run(), Popen() and the methods of a Container take it"

_SENTENCES = {
    # images
    "image build": "there are no images; {rootfs} makes the directory of an unpacked one the root",
    "entrypoint": "there is no image with an entry point; the command begins with its program",
    "platform": "there are no images of other platforms; the command is a program of this machine",
    "pull disable_content_trust": "there is no image to pull; leave it out",
    "storage_opt": "there is no storage driver; the options of {tmpfs} set a size",
    "runtime isolation": "there is one runtime; leave it out",
    # the life of a container
    "auto_remove remove rm": "a container leaves nothing behind; leave it out",
    "name": "containers have no names, and a pid identifies one; {hostname} is the name inside",
    "restart restart_policy": "there is no daemon that restarts a command; start it in a loop",
    "cidfile": "containers have no ids; `minidocker ps` lists their pids",
    "label labels label_file annotation": "containers have no labels; leave it out",
    "healthcheck health_cmd health_interval health_retries health_start_interval "
    "health_start_period health_timeout no_healthcheck": (
        "there is no daemon that checks the health of a command; leave it out"
    ),
    "log_config log_driver log_opt": "there is no daemon that stores output; redirect it",
    "use_api_socket use_config_proxy": "there is no daemon with a socket or settings; leave it out",
    "sig_proxy": "signals go on to the command in any case; leave it out",
    "detach_keys": "there is no daemon that keeps a detached command; leave it out",
    # the same thing by another name
    "group_add": "{extra_groups} has this meaning",
    "root chroot": "{rootfs} has this meaning",
    "uid gid": "{user} takes a user and a group",
    "init_path": "{init} starts minidocker's own init",
    # confinement
    "privileged": (
        "there are no privileges over the host to give, and the default profile has every "
        "capability over the container; leave it out"
    ),
    "gpus device_requests": "{devices} shows devices of the host, such as /dev/nvidia0",
    "device_cgroup_rule device_cgroup_rules": (
        "the owner and the mode of a device decide who may open it; leave it out"
    ),
    "sysctl sysctls": "as root inside, the command itself can write to /proc/sys/net",
    # files
    "volumes_from volume_driver": "there are no volumes; {mounts} shows files and directories",
    "shm_size": "/dev/shm takes up to half of the memory; {tmpfs} mounts one of another size there",
    "dns dns_opt dns_option dns_search": (
        "a container has the host's /etc/resolv.conf; {mounts} shows another file there"
    ),
    "extra_hosts add_host": (
        "further hosts are not available in this version; {mounts} shows another /etc/hosts"
    ),
    # networks
    "ports publish publish_all publish_all_ports": _PORTS,
    "expose": "it only documents a port, and there is no image to document; leave it out",
    "network_alias network_aliases net_alias ip ip6 link_local_ip mac_address link links "
    "networking_config": _NETWORKS,
    "network_disabled": "a new network has loopback only; leave it out",
    # limits
    "mem_limit memory mem memswap_limit memory_swap mem_reservation memory_reservation cpus "
    "nano_cpus cpu_shares cpu_period cpu_quota cpu_rt_period cpu_rt_runtime cpuset_cpus "
    "cpuset_mems pids_limit blkio_weight blkio_weight_device device_read_bps device_read_iops "
    "device_write_bps device_write_iops mem_swappiness memory_swappiness kernel_memory "
    "oom_kill_disable cgroup_parent": _CONTROL_GROUPS,
    "oom_score_adj": "a container has the caller's; choom(1) starts a program with another one",
    # bwrap and unshare
    "bind bind_try ro_bind ro_bind_try dev_bind dev_bind_try": (
        "{mounts} shows files and directories of the host"
    ),
    "unshare_all unshare_user unshare_pid unshare_net unshare_uts unshare_ipc unshare_cgroup "
    "unshare_user_try unshare_cgroup_try": "{namespaces} selects which namespaces are new",
    "share_net": "{network} shares the caller's network",
    "dev": "{devices} shows devices of the host",
    "proc mount_proc": "a container with a new PID namespace has a /proc of its own; leave it out",
    "new_session": "a container with a new PID namespace is in a session of its own; leave it out",
    "as_pid_1": "the command is PID 1, except with {init}; leave it out",
    "kill_child": "{die_with_parent} has this meaning",
    "map_root_user map_user map_users map_group map_groups map_auto map_current_user": (
        "the caller is root inside by default; {uid_map} and {gid_map} map other ids"
    ),
    "pool": "it is not available in this version; leave it out",
    "output_limit": (
        "it bounds what run() and communicate() of the Python package capture; leave it out here"
    ),
    "cpu_count cpu_percent io_maxbandwidth io_maxiops": "it is for Windows only; leave it out",
}

_FOR_PYTHON = {
    "detach": "run() waits for its command; Popen() and Container() start what goes on",
    "environment setenv": "{env} has this meaning, as in subprocess",
    "env_file": "{env} takes a mapping; read the file into one",
    "working_dir workdir chdir wd": "{cwd} has this meaning, as in subprocess",
    "volumes volume binds": "{mounts} has this meaning: a list of Mount(inside, outside)",
    "network_mode": "{network} has this meaning: 'none', 'host' or a container",
    "pid_mode ipc_mode uts_mode userns_mode cgroupns pid ipc uts userns": _NAMESPACE,
    "security_opt": "{seccomp}, {no_new_privileges} and {profile} have this meaning",
    "stop_signal stop_timeout": "send_signal() of a Popen sends any signal; leave it out",
    "attach stream stdin_open interactive": (
        "the command has the caller's standard streams; {stdin}, {stdout} and {stderr} redirect "
        "them, as in subprocess"
    ),
    "tty": "{stdin}, {stdout} and {stderr} take the descriptor of a terminal, as in subprocess",
    "timeout check input capture_output": (
        "run() has it; a Popen has wait(timeout) and communicate(input, timeout)"
    ),
    "args bufsize close_fds cwd encoding env errors executable group extra_groups pass_fds "
    "pipesize preexec_fn process_group restore_signals shell start_new_session stderr stdin stdout "
    "text umask universal_newlines": _COMMANDS,
}

_FOR_THE_COMMAND_LINE = {
    "attach": "the command has minidocker's own standard streams; redirect them",
    "detach": "there is no daemon that keeps a container; end the line with & in a shell",
    "group_add": "the command line has no further groups; {user} takes NAME:GROUP",
    "net": "{network} has this meaning",
    "chdir cwd wd working_dir": "--workdir has this meaning",
    "setenv environment": "--env has this meaning",
    "unsetenv": "--clearenv and --env select the environment",
    "stop_signal stop_timeout": "send the signal to minidocker, which sends it on; leave it out",
}

_COMMAND_SENTENCES = {
    "build commit history image images import load manifest pull push rmi save search tag": (
        "there are no images; give run --rootfs the directory of an unpacked one"
    ),
    "create kill pause port rename restart rm start stop unpause update wait": (
        "there is no daemon that keeps containers; send a signal to a process that ps lists"
    ),
    "attach logs": "the output of a command goes to the standard output of its run",
    "container": "its subcommands are commands: run, exec, ps, inspect",
    "compose network plugin secret service stack swarm volume": "there is one container at a time",
    "cp diff export": "give run --overlay-dir a directory, which keeps what the command changes",
    "info": "doctor tests what works on this machine",
    "stats top": "it is not available in this version; exec PID ps shows the processes",
    "version": "--version prints it",
}
"""The commands of docker that are no commands here."""


def _by_word(rows: dict[str, str]) -> dict[str, str]:
    return {word: text for words, text in rows.items() for word in words.split()}


class _Spelled(dict[str, str]):
    """A mapping from the name of each option to its spelling."""

    def __init__(self, spell: Callable[[str], str]) -> None:
        super().__init__()
        self._spell = spell

    def __missing__(self, option: str) -> str:
        return self._spell(option)


def sentence(
    word: str, spell: Callable[[str], str] = str, *, command_line: bool = False
) -> str | None:
    """Return the sentence about a well-known word, or None for any other word.

    Args:
        word: a keyword, or the name of a flag without its dashes.
        spell: returns the spelling of the option with the given keyword.
        command_line: whether the word is a flag of the command line.
    """
    own = _FOR_THE_COMMAND_LINE if command_line else _FOR_PYTHON
    text = _by_word({**_SENTENCES, **own}).get(word.replace("-", "_"))
    return None if text is None else text.format_map(_Spelled(spell))


def command_sentence(word: str) -> str | None:
    """Return the sentence about a command of docker, or None for any other word."""
    return _by_word(_COMMAND_SENTENCES).get(word)

"""The one table of options.

To add an option, add one row. Parser, ``--help`` and completion read this table, and
``python -m minidocker.cli.reference docs/cli.md`` writes the tables of the manual from it.
"""

from __future__ import annotations

from minidocker._spec.names import KINDS, PROFILES
from minidocker.cli import confinement, values
from minidocker.cli.docker import DOCKER_OPTIONS
from minidocker.cli.parser import (
    Command,
    Option,
    keyword,
    keyword_items,
    keyword_mapping,
    setting,
    setting_items,
)

#: Options for the command's user, directory and environment, of ``run``, ``exec`` and ``explain``.
_COMMAND_OPTIONS = (
    Option(
        "--clearenv",
        store=setting("clearenv"),
        summary="Start from an empty environment instead of the caller's",
        example="minidocker run --clearenv -e PATH -e LANG=C env",
    ),
    Option(
        "-e",
        "--env",
        metavar="NAME[=VALUE]",
        convert=values.variable,
        store=setting_items("env"),
        complete="variable",
        summary="Set an environment variable; without a value, take the caller's",
        example="minidocker run -e GREETING=hello sh -c 'echo $GREETING'",
    ),
    Option(
        "--env-file",
        metavar="FILE",
        convert=values.environment_file,
        store=setting_items("env_file"),
        complete="file",
        summary="Read variables from a file, one NAME=VALUE or NAME a line; -e overrides",
        example="minidocker run --env-file settings.env env",
    ),
    Option(
        "-u",
        "--user",
        metavar="NAME|UID[:GROUP|GID]",
        convert=values.user,
        store=keyword("user"),
        complete="user",
        summary="Run the command as this user (default: root)",
        example="minidocker run --user 1000 id",
    ),
    Option(
        "-w",
        "--workdir",
        metavar="PATH",
        store=keyword("cwd"),
        complete="directory",
        summary="Start in this directory of the container (default: the caller's, else /)",
        example="minidocker run --workdir /usr pwd",
    ),
)

#: Options for standard input and output, of ``run``, ``exec`` and ``explain``.
_STREAM_OPTIONS = (
    Option(
        "-i",
        "--interactive",
        store=setting("interactive"),
        summary="Pass standard input to the command; without it, standard input is empty",
        example="echo hello | minidocker run -i cat",
    ),
    Option(
        "-t",
        "--tty",
        store=setting("tty"),
        summary="Give the command a terminal of its own",
        example="minidocker run -it bash",
    ),
)

#: Options that confine the command, of ``run``, ``exec`` and ``explain``.
_CONFINEMENT_OPTIONS = (
    Option(
        "--cap-add",
        metavar="CAPABILITY",
        store=keyword_items("cap_add"),
        words=confinement.CAPABILITIES,
        summary="Add a capability to those of the profile; ALL adds every one",
        example="minidocker run --profile docker --cap-add NET_ADMIN ip link add type dummy",
    ),
    Option(
        "--cap-drop",
        metavar="CAPABILITY",
        store=keyword_items("cap_drop"),
        words=confinement.CAPABILITIES,
        summary="Drop a capability of the profile; ALL drops every one",
        example="minidocker run --cap-drop ALL grep Cap /proc/self/status",
    ),
    Option(
        "--profile",
        metavar="|".join(PROFILES),
        store=keyword("profile"),
        words=PROFILES,
        summary="Confine the command by namespaces only (default), as docker confines a container, "
        "or as untrusted code needs it, with a few variables of the environment",
        example="minidocker run --profile untrusted id",
    ),
    Option(
        "--security-opt",
        metavar="OPTION",
        convert=confinement.security_option,
        store=confinement.store_security_option,
        words=("no-new-privileges", "seccomp=unconfined", "seccomp="),
        summary="seccomp=FILE sets a system call filter in docker's JSON format, "
        "seccomp=unconfined removes it; no-new-privileges[=false] sets whether setuid programs "
        "gain no privileges",
        example="minidocker run --profile docker --security-opt no-new-privileges id",
    ),
    Option(
        "--ulimit",
        metavar="NAME=SOFT[:HARD]",
        convert=confinement.ulimit,
        store=keyword_mapping("ulimits"),
        words=tuple(f"{name}=" for name in confinement.ULIMITS),
        summary="Set a resource limit; -1 means no limit",
        example="minidocker run --ulimit nofile=64:128 sh -c 'ulimit -n'",
    ),
)

#: Options for the container's files, of ``run`` and ``explain``.
_FILE_OPTIONS = (
    Option(
        "--device",
        metavar="DEVICE[:TARGET]",
        store=keyword_items("devices"),
        complete="file",
        summary="Show a device of the host in the container, under its own name or another one",
        example="minidocker run --profile docker --device /dev/fuse ls /dev",
    ),
    Option(
        "--mount",
        metavar="KEY=VALUE[,KEY=VALUE ...]",
        convert=confinement.mount,
        store=keyword_items("mounts"),
        words=(*(f"{key}=" for key in confinement.MOUNT_KEYS), "readonly"),
        summary="Mount something: type (bind, the default, tmpfs, overlay, proc, sysfs, devpts, "
        "mqueue), source, target, readonly, upper, tmpfs-size, tmpfs-mode, options",
        example="minidocker run --mount type=bind,source=/usr,target=/data,readonly ls /data",
    ),
    Option(
        "--overlay",
        store=confinement.store_overlay_flag,
        summary="Write changes of the root to a layer in memory, which is thrown away",
        example="minidocker run --overlay touch /etc/never-seen-again",
    ),
    Option(
        "--overlay-dir",
        metavar="DIRECTORY",
        store=confinement.store_overlay,
        complete="directory",
        summary="Keep changes of the root in this directory, for the next container",
        example="minidocker run --overlay-dir ./layer touch /etc/kept",
    ),
    Option(
        "--read-only",
        store=keyword("read_only"),
        summary="Make the root and all below it read-only, except what --volume, --mount and "
        "--tmpfs add",
        example="minidocker run --read-only --tmpfs /tmp touch /tmp/here",
    ),
    Option(
        "--rootfs",
        metavar="DIRECTORY",
        store=keyword("rootfs"),
        complete="directory",
        summary="Make this directory the root: an unpacked image, debootstrap, busybox",
        example="minidocker run --rootfs ./busybox sh",
    ),
    Option(
        "--tmpfs",
        metavar="TARGET[:OPTIONS]",
        convert=confinement.tmpfs,
        store=keyword_mapping("tmpfs"),
        summary="Mount an empty directory in memory at TARGET",
        example="minidocker run --tmpfs /srv:size=64m,mode=700 df /srv",
    ),
    Option(
        "-v",
        "--volume",
        metavar="SOURCE:TARGET[:OPTIONS]",
        convert=confinement.volume,
        store=keyword_items("mounts"),
        complete="directory",
        summary="Mount a file or directory of the host at TARGET; ro makes it read-only",
        example="minidocker run -v /usr/share:/data:ro ls /data",
    ),
)

#: Options for the container itself, of ``run`` and ``explain``.
_CONTAINER_OPTIONS = (
    Option(
        "--cgroupns",
        metavar="host|private",
        convert=values.host_or_private,
        store=values.store_sharing("cgroup"),
        words=("host", "private"),
        summary="Share the caller's cgroup namespace (host), or not (private, the default)",
        example="minidocker run --cgroupns host cat /proc/self/cgroup",
    ),
    Option(
        "--die-with-parent",
        store=keyword("die_with_parent"),
        negatable=True,
        summary="End the container when minidocker ends, however it ends (default: yes)",
        example="minidocker run --no-die-with-parent sleep 60",
    ),
    Option(
        "--domainname",
        metavar="NAME",
        store=keyword("domainname"),
        summary="NIS domain name of the container",
        example="minidocker run --domainname example.org domainname",
    ),
    Option(
        "--gidmap",
        metavar="INSIDE:OUTSIDE:COUNT|auto",
        convert=values.id_row,
        store=values.id_rows("gid_map"),
        words=("auto",),
        summary="Map group ids; repeat it for more rows; auto takes the caller's subordinate ids",
        example="minidocker run --uidmap auto --gidmap auto cat /proc/self/gid_map",
    ),
    Option(
        "-h",
        "--hostname",
        metavar="NAME",
        store=keyword("hostname"),
        summary="Host name of the container",
        example="minidocker run --hostname mycontainer hostname",
    ),
    Option(
        "--init",
        store=keyword("init"),
        summary="Run a tiny init as PID 1, which reaps orphans and forwards signals",
        example="minidocker run --init ps -ef",
    ),
    Option(
        "--ipc",
        metavar="host|private",
        convert=values.host_or_private,
        store=values.store_sharing("ipc"),
        words=("host", "private"),
        summary="Share the caller's IPC namespace (host), or not (private, the default)",
        example="minidocker run --ipc host ipcs",
    ),
    Option(
        "--namespaces",
        metavar="KIND[,KIND ...]",
        convert=values.namespaces,
        store=setting("namespaces"),
        words=("all", "none", *KINDS),
        summary=f"Create these namespaces: {', '.join(KINDS)}; all stands for the first seven "
        "(default), none for none of them",
        example="minidocker run --namespaces uts,user --hostname lab hostname",
    ),
    Option(
        "--network",
        metavar="none|host|container:PID",
        convert=values.network,
        store=setting("network"),
        words=("none", "host", "container:"),
        complete="container",
        summary="Network: a new stack with loopback only (none, the default), the caller's (host), "
        "or that of another container",
        example="minidocker run --network host ip addr",
    ),
    Option(
        "--pid",
        metavar="host",
        convert=values.host,
        store=setting("share_pid"),
        words=("host",),
        summary="Share the caller's PID namespace",
        example="minidocker run --pid host sh -c 'echo $$'",
    ),
    Option(
        "--time-offset",
        metavar="CLOCK=SECONDS",
        convert=values.time_offset,
        store=keyword_mapping("time_offsets"),
        words=("monotonic=", "boottime="),
        summary="Set a clock (monotonic or boottime) forward or back, in a new time namespace",
        example="minidocker run --time-offset boottime=86400 uptime",
    ),
    Option(
        "--uidmap",
        metavar="INSIDE:OUTSIDE:COUNT|auto",
        convert=values.id_row,
        store=values.id_rows("uid_map"),
        words=("auto",),
        summary="Map user ids; repeat it for more rows; auto takes the caller's subordinate ids",
        example="minidocker run --uidmap 0:1000:1 --gidmap 0:1000:1 id",
    ),
    Option(
        "--userns",
        metavar="host",
        convert=values.host,
        store=setting("share_user"),
        words=("host",),
        summary="Share the caller's user namespace (the other namespaces then need root)",
        example="minidocker run --userns host cat /proc/self/uid_map",
    ),
    Option(
        "--uts",
        metavar="host",
        convert=values.host,
        store=setting("share_uts"),
        words=("host",),
        summary="Share the caller's UTS namespace: its host name",
        example="minidocker run --uts host hostname",
    ),
)

#: Options only of ``run``.
_RUN_OPTIONS = (
    Option(
        "--explain",
        store=setting("explain"),
        summary="Print each finished step, and the exit status, on standard error",
        example="minidocker run --explain --hostname lab true",
    ),
    Option(
        "--timeout",
        metavar="SECONDS",
        convert=values.seconds,
        store=setting("timeout"),
        summary="Kill the container after this time",
        example="minidocker run --timeout 5 sleep 60",
    ),
)

_JSON = "Print JSON"


def _sorted(*groups: tuple[Option, ...]) -> list[Option]:
    return sorted((row for group in groups for row in group), key=lambda row: row.long)


_COMMANDS = (
    Command(
        "run",
        "Run a command in a new container",
        _sorted(
            _COMMAND_OPTIONS,
            _STREAM_OPTIONS,
            _CONTAINER_OPTIONS,
            _FILE_OPTIONS,
            _CONFINEMENT_OPTIONS,
            DOCKER_OPTIONS,
            _RUN_OPTIONS,
        ),
        operands="COMMAND [ARG ...]",
        fewest=1,
        most=None,
        execs=0,
    ),
    Command(
        "exec",
        "Run a command in a running container; PID is any process in it",
        _sorted(_COMMAND_OPTIONS, _STREAM_OPTIONS, _CONFINEMENT_OPTIONS),
        operands="PID COMMAND [ARG ...]",
        fewest=2,
        most=None,
        execs=1,
    ),
    Command(
        "ps",
        "List the visible containers, whichever program started them",
        (
            Option(
                "--json",
                store=setting("json"),
                summary=_JSON,
                example="minidocker ps --json",
            ),
            Option(
                "--no-trunc",
                store=setting("no_trunc"),
                summary="Do not shorten commands to the width of the terminal",
                example="minidocker ps --no-trunc",
            ),
            Option(
                "-q",
                "--quiet",
                store=setting("quiet"),
                summary="Print process ids only",
                example="minidocker ps --quiet",
            ),
        ),
    ),
    Command(
        "inspect",
        "Print a description of the container of a process, as JSON",
        (),
        operands="PID",
        fewest=1,
        most=1,
    ),
    Command(
        "explain",
        "Print the system calls that run would make, and make none",
        _sorted(
            _COMMAND_OPTIONS,
            _STREAM_OPTIONS,
            _CONTAINER_OPTIONS,
            _FILE_OPTIONS,
            _CONFINEMENT_OPTIONS,
            DOCKER_OPTIONS,
            (
                Option(
                    "--json",
                    store=setting("json"),
                    summary=_JSON,
                    example="minidocker explain --json true",
                ),
            ),
        ),
        operands="COMMAND [ARG ...]",
        fewest=1,
        most=None,
        execs=0,
    ),
    Command(
        "doctor",
        "Test what works on this machine; exit status 1 if something essential does not",
        (),
    ),
    Command(
        "completion",
        "Print the completion script of a shell",
        (),
        operands="bash|zsh|fish",
        fewest=1,
        most=1,
    ),
)

#: Subcommand name to subcommand, in the order of ``minidocker --help``.
COMMANDS = {command.name: command for command in _COMMANDS}

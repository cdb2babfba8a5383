"""The flags of the system calls in :mod:`minidocker.linux`, named without their C prefix."""

import enum

__all__ = ["CloneFlags", "MountFlags", "UmountFlags"]


class CloneFlags(enum.IntFlag):
    """The kinds that :func:`unshare` and :func:`setns` take: the ``CLONE_*`` flags of clone(2)."""

    NEWTIME = 0x0000_0080
    """``CLONE_NEWTIME``: monotonic and boot-time clocks, for the next child; time_namespaces(7)."""
    FS = 0x0000_0200
    """``CLONE_FS``: root, working directory and umask, no longer shared with other threads."""
    FILES = 0x0000_0400
    """``CLONE_FILES``: the file descriptor table, no longer shared with other threads."""
    NEWNS = 0x0002_0000
    """``CLONE_NEWNS``: mount points; mount_namespaces(7). The first kind, hence its name."""
    SYSVSEM = 0x0004_0000
    """``CLONE_SYSVSEM``: System V semaphore adjustments, no longer shared with other threads."""
    NEWCGROUP = 0x0200_0000
    """``CLONE_NEWCGROUP``: the root of the control group tree; cgroup_namespaces(7)."""
    NEWUTS = 0x0400_0000
    """``CLONE_NEWUTS``: host name and NIS domain name; uts_namespaces(7)."""
    NEWIPC = 0x0800_0000
    """``CLONE_NEWIPC``: System V IPC and POSIX message queues; ipc_namespaces(7)."""
    NEWUSER = 0x1000_0000
    """``CLONE_NEWUSER``: user and group ids, capabilities; user_namespaces(7)."""
    NEWPID = 0x2000_0000
    """``CLONE_NEWPID``: process ids, for the next child, which is PID 1; pid_namespaces(7)."""
    NEWNET = 0x4000_0000
    """``CLONE_NEWNET``: network interfaces, routes, ports; network_namespaces(7)."""


class MountFlags(enum.IntFlag):
    """How :func:`mount` mounts: the ``MS_*`` flags of mount(2)."""

    RDONLY = 1
    """``MS_RDONLY``: read-only."""
    NOSUID = 1 << 1
    """``MS_NOSUID``: set-user-ID, set-group-ID bits and file capabilities have no effect."""
    NODEV = 1 << 2
    """``MS_NODEV``: device files cannot be opened."""
    NOEXEC = 1 << 3
    """``MS_NOEXEC``: programs cannot be executed."""
    SYNCHRONOUS = 1 << 4
    """``MS_SYNCHRONOUS``: writes are synchronous, as with ``O_SYNC``."""
    REMOUNT = 1 << 5
    """``MS_REMOUNT``: change flags and data of a file system; with ``BIND``, the mount's flags."""
    MANDLOCK = 1 << 6
    """``MS_MANDLOCK``: mandatory locking; ignored since Linux 5.15."""
    DIRSYNC = 1 << 7
    """``MS_DIRSYNC``: changes of directories are synchronous."""
    NOSYMFOLLOW = 1 << 8
    """``MS_NOSYMFOLLOW``: symbolic links are not followed (Linux 5.10)."""
    NOATIME = 1 << 10
    """``MS_NOATIME``: access times are not updated."""
    NODIRATIME = 1 << 11
    """``MS_NODIRATIME``: access times of directories are not updated."""
    BIND = 1 << 12
    """``MS_BIND``: make the file or directory ``source`` visible at ``target`` as well."""
    MOVE = 1 << 13
    """``MS_MOVE``: move the mount ``source`` to ``target``."""
    REC = 1 << 14
    """``MS_REC``: with ``BIND`` or a propagation type, apply to the whole tree of mounts."""
    SILENT = 1 << 15
    """``MS_SILENT``: fewer messages in the kernel's log."""
    POSIXACL = 1 << 16
    """``MS_POSIXACL``: access control lists."""
    UNBINDABLE = 1 << 17
    """``MS_UNBINDABLE``: like ``PRIVATE``, and cannot be bound elsewhere."""
    PRIVATE = 1 << 18
    """``MS_PRIVATE``: mounts propagate neither into this mount nor out of it."""
    SLAVE = 1 << 19
    """``MS_SLAVE``: mounts propagate into this mount, but not out of it."""
    SHARED = 1 << 20
    """``MS_SHARED``: mounts propagate both ways between the members of a peer group."""
    RELATIME = 1 << 21
    """``MS_RELATIME``: update an access time only if it is older than the last change or a day."""
    I_VERSION = 1 << 23
    """``MS_I_VERSION``: count the changes of each inode."""
    STRICTATIME = 1 << 24
    """``MS_STRICTATIME``: access times are always updated."""
    LAZYTIME = 1 << 25
    """``MS_LAZYTIME``: timestamps are updated in memory and written to disk later."""


class UmountFlags(enum.IntFlag):
    """How :func:`umount2` unmounts: the flags of umount2(2)."""

    FORCE = 1
    """``MNT_FORCE``: abort pending requests (network file systems); data may be lost."""
    DETACH = 1 << 1
    """``MNT_DETACH``: hide the mount at once, and unmount it when it is no longer in use."""
    EXPIRE = 1 << 2
    """``MNT_EXPIRE``: mark as expired (EAGAIN); a second call unmounts it if it was not used."""
    NOFOLLOW = 1 << 3
    """``UMOUNT_NOFOLLOW``: do not follow ``target`` if it is a symbolic link."""

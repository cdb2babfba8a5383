"""The flags of the system calls in :mod:`minidocker.linux`, named without their C prefix."""

import enum

__all__ = ["CloneFlags", "MountFlags", "UmountFlags"]


class CloneFlags(enum.IntFlag):
    """What :func:`unshare` makes new and :func:`setns` joins: the ``CLONE_*`` flags of clone(2)."""

    NEWTIME = 0x0000_0080
    """``CLONE_NEWTIME``: monotonic and boot-time clocks, for the next child; time_namespaces(7)."""
    FS = 0x0000_0200
    """``CLONE_FS``: an own root, working directory and umask, not shared with other threads."""
    FILES = 0x0000_0400
    """``CLONE_FILES``: an own table of file descriptors, not shared with other threads."""
    NEWNS = 0x0002_0000
    """``CLONE_NEWNS``: mount points; mount_namespaces(7). It is the oldest, hence the name."""
    SYSVSEM = 0x0004_0000
    """``CLONE_SYSVSEM``: an own list of System V semaphore adjustments."""
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
    """``MS_SYNCHRONOUS``: writes are done at once, as with ``O_SYNC``."""
    REMOUNT = 1 << 5
    """``MS_REMOUNT``: change flags and data of a file system, or with ``BIND`` of one mount."""
    MANDLOCK = 1 << 6
    """``MS_MANDLOCK``: mandatory locking; ignored since Linux 5.15."""
    DIRSYNC = 1 << 7
    """``MS_DIRSYNC``: changes of directories are done at once."""
    NOSYMFOLLOW = 1 << 8
    """``MS_NOSYMFOLLOW``: symbolic links are not followed (Linux 5.10)."""
    NOATIME = 1 << 10
    """``MS_NOATIME``: access times are not updated."""
    NODIRATIME = 1 << 11
    """``MS_NODIRATIME``: access times of directories are not updated."""
    BIND = 1 << 12
    """``MS_BIND``: show the file or directory ``source`` at ``target`` too."""
    MOVE = 1 << 13
    """``MS_MOVE``: move the mount ``source`` to ``target``."""
    REC = 1 << 14
    """``MS_REC``: with ``BIND``, or a change of propagation, the whole tree of mounts."""
    SILENT = 1 << 15
    """``MS_SILENT``: fewer messages in the kernel's log."""
    POSIXACL = 1 << 16
    """``MS_POSIXACL``: access control lists."""
    UNBINDABLE = 1 << 17
    """``MS_UNBINDABLE``: private, and cannot be bound elsewhere."""
    PRIVATE = 1 << 18
    """``MS_PRIVATE``: mounts do not propagate, neither from here nor to here."""
    SLAVE = 1 << 19
    """``MS_SLAVE``: mounts propagate to here, not from here."""
    SHARED = 1 << 20
    """``MS_SHARED``: mounts propagate both ways, among the members of a peer group."""
    RELATIME = 1 << 21
    """``MS_RELATIME``: access times are updated when older than the last change, or than a day."""
    I_VERSION = 1 << 23
    """``MS_I_VERSION``: count the changes of each inode."""
    STRICTATIME = 1 << 24
    """``MS_STRICTATIME``: access times are always updated."""
    LAZYTIME = 1 << 25
    """``MS_LAZYTIME``: times are kept in memory and written later."""


class UmountFlags(enum.IntFlag):
    """How :func:`umount2` unmounts: the flags of umount2(2)."""

    FORCE = 1
    """``MNT_FORCE``: give up what is waited for (network file systems); data may be lost."""
    DETACH = 1 << 1
    """``MNT_DETACH``: out of the tree at once, gone for good when it is no longer in use."""
    EXPIRE = 1 << 2
    """``MNT_EXPIRE``: mark as expired (EAGAIN), unmount at the second call without use between."""
    NOFOLLOW = 1 << 3
    """``UMOUNT_NOFOLLOW``: do not follow a symbolic link ``target``."""

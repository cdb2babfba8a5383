//! The process that makes spare namespaces, and file systems of theirs, while nobody waits for them: they are
//! what takes most of the time that a container takes.
//!
//! It goes into new namespaces and sends descriptors, which are all that is left when it has ended. Where it is
//! known which id maps the next container has, they are written, as its caller would write them: with no
//! capability that the caller has not. Without maps there are no file systems. These are mounted nowhere: a
//! container mounts them where it would mount its own.

use core::ffi::CStr;

use crate::child::KernelSigaction;
use crate::close_all_but;
use crate::file::{close, open, open_to_write, path, read, write};
use crate::program::{Made, ahead};
use crate::raw::{Errno, exit, nr, syscall};
use crate::reaper::{DescriptorRights, MessageWithDescriptor, set_sigchld};

const CLONE_NEWNS: u64 = 0x0002_0000;
const CLONE_NEWIPC: u64 = 0x0800_0000;
const CLONE_NEWUSER: u64 = 0x1000_0000;
const CLONE_NEWNET: u64 = 0x4000_0000;
/// A file system belongs to the user namespace that the mount namespace does; that is not used otherwise.
const NEW: u64 = CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWNS;

const SIGCHLD: u64 = 17;
const PR_SET_DUMPABLE: u64 = 4;
const RLIMIT_NOFILE: u64 = 7;

/// Makes them, sends them through this socket, and ends. `limit`: how many descriptors the caller may have;
/// `capabilities`: what it may do; `wanted`: what else there is to make.
pub(crate) fn make(through: i32, limit: u64, capabilities: u64, wanted: &Made) -> ! {
    // What the watchdog watches is not to be held open here.
    close_all_but([through, through]);
    if keep_capabilities(capabilities).is_err() || namespaces_are_few() {
        exit(1);
    }
    if wanted.all != 0 && make_all(through, limit, wanted) {
        exit(0);
    }
    // SAFETY: takes no pointer; this process has one thread, and shares nothing.
    if unsafe { syscall(nr::UNSHARE, [NEW, 0, 0, 0, 0, 0]) }.is_err() {
        exit(1);
    }
    let sent = send_namespaces(through, limit, &Made::NOTHING, &mut [-1; ahead::NAMESPACES]);
    exit(i32::from(!sent))
}

/// Whether a user may have but a few namespaces, so that those which wait would be missed elsewhere.
fn namespaces_are_few() -> bool {
    const FEW: u32 = 64;
    let paths: [&[u8]; 4] = [
        b"/proc/sys/user/max_user_namespaces\0",
        b"/proc/sys/user/max_net_namespaces\0",
        b"/proc/sys/user/max_ipc_namespaces\0",
        b"/proc/sys/user/max_mnt_namespaces\0",
    ];
    let limit = |path| {
        let mut buffer = [0_u8; 12];
        let digits = read(path, &mut buffer)?.iter().take_while(|byte| byte.is_ascii_digit());
        Some(digits.fold(0_u32, |sum, digit| sum.saturating_mul(10) + u32::from(digit - b'0')))
    };
    paths.into_iter().filter_map(limit).any(|limit| limit < FEW)
}

/// Gives up all others: this program was executed, and as root it was given back what the caller, before it
/// had one, may have given up.
fn keep_capabilities(those: u64) -> Result<(), Errno> {
    const VERSION_3: u32 = 0x2008_0522;
    let mut header = [VERSION_3, 0];
    let mut sets = [0_u32; 6];
    let (version, place) = (header.as_mut_ptr() as u64, sets.as_mut_ptr() as u64);
    // SAFETY: the kernel reads the header, and writes two times three words.
    unsafe { syscall(nr::CAPGET, [version, place, 0, 0, 0, 0]) }?;
    let [effective, permitted, _, high_effective, high_permitted, _] = &mut sets;
    for (set, kept) in [
        (effective, those as u32),
        (permitted, those as u32),
        (high_effective, (those >> 32) as u32),
        (high_permitted, (those >> 32) as u32),
    ] {
        *set &= kept;
    }
    // SAFETY: the kernel reads both.
    unsafe { syscall(nr::CAPSET, [version, place, 0, 0, 0, 0]) }.map(drop)
}

/// All that is wanted, in a child: a process does not write the maps of its own user namespace, but for a
/// single row.
fn make_all(through: i32, limit: u64, wanted: &Made) -> bool {
    // Its files in /proc belong to this user then, and can be written to. There is nothing secret in its
    // memory, and no descriptor but the socket.
    // SAFETY: takes no pointer.
    let _ = unsafe { syscall(nr::PRCTL, [PR_SET_DUMPABLE, 1, 0, 0, 0, 0]) };
    // How the child ends is to be known.
    let _ = set_sigchld(&KernelSigaction::default_action());
    let mut ends = [-1_i32; 2];
    // SAFETY: the kernel writes two descriptors.
    if unsafe { syscall(nr::PIPE2, [ends.as_mut_ptr() as u64, 0, 0, 0, 0, 0]) }.is_err() {
        return false;
    }
    let [told, tell] = ends;
    // SAFETY: no CLONE_VM: the child gets a copy of this process, this stack included.
    match unsafe { syscall(nr::CLONE, [NEW | SIGCHLD, 0, 0, 0, 0, 0]) } {
        Ok(0) => {
            close(tell);
            let made = has_been_told(told) && send_all(through, limit, wanted);
            exit(i32::from(!made))
        }
        Ok(pid) => {
            close(told);
            if write_maps(pid as i32, wanted).is_some() {
                let _ = write(tell, b"1");
            }
            close(tell);
            let mut status = -1_i32;
            let place = &raw mut status as u64;
            // SAFETY: the kernel writes the status.
            let _ = unsafe { syscall(nr::WAIT4, [pid as u64, place, 0, 0, 0, 0]) };
            status == 0
        }
        Err(_) => false,
    }
}

/// Whether the maps have been written.
fn has_been_told(told: i32) -> bool {
    let mut byte = 0_u8;
    // SAFETY: the kernel writes at most one byte.
    let read = unsafe { syscall(nr::READ, [told as u64, &raw mut byte as u64, 1, 0, 0, 0]) };
    close(told);
    read == Ok(1)
}

/// The id maps of this process's child.
fn write_maps(pid: i32, wanted: &Made) -> Option<()> {
    let [uid, gid, _] = wanted.texts()?;
    let setgroups: &[u8] = if wanted.deny_setgroups == 0 { b"" } else { b"deny" };
    for (name, content) in [(&b"/setgroups"[..], setgroups), (b"/uid_map", uid), (b"/gid_map", gid)]
    {
        if content.is_empty() {
            continue;
        }
        let file = open_to_write(&path(b"/proc/", pid, name)?)?;
        let written = write(file, content);
        close(file);
        written?;
    }
    Some(())
}

/// Namespaces, those that this process is in, and file systems.
fn send_all(through: i32, limit: u64, wanted: &Made) -> bool {
    let mut descriptors = [-1; ahead::DESCRIPTORS];
    let (_, file_systems) = descriptors.split_at_mut(ahead::NAMESPACES);
    let made = Made { ping: u8::from(allow_ping(wanted).is_some()), ..*wanted };
    make_file_systems(file_systems, wanted.tty != 0).is_ok()
        && send_namespaces(through, limit, &made, &mut descriptors)
}

/// Says which groups may use ICMP sockets: a new network namespace forbids them. Where /proc/sys cannot be
/// written, a container may still do that in its own.
fn allow_ping(wanted: &Made) -> Option<()> {
    let [.., pingers] = wanted.texts()?;
    let file = open_to_write(b"/proc/sys/net/ipv4/ping_group_range\0")?;
    let written = write(file, pingers);
    close(file);
    written
}

/// Sends the namespaces that this process is in, with what else there is in `descriptors`.
fn send_namespaces(through: i32, limit: u64, made: &Made, descriptors: &mut [i32]) -> bool {
    let paths: [&[u8]; ahead::NAMESPACES] =
        [b"/proc/self/ns/user\0", b"/proc/self/ns/net\0", b"/proc/self/ns/ipc\0"];
    for (place, path) in descriptors.iter_mut().zip(paths) {
        let Some(namespace) = open(path) else { return false };
        *place = namespace;
    }
    loopback_up() && leave_room_for_others(limit) && send(through, made, descriptors)
}

/// Options of a file system.
type Options = &'static [(&'static CStr, &'static CStr)];

/// Those of [`ahead::FILE_SYSTEMS`].
fn make_file_systems(places: &mut [i32], tty: bool) -> Result<(), Errno> {
    /// What they would be mounted with.
    const MEMORY: Options = &[(c"source", c"tmpfs"), (c"mode", c"1777")];
    const SYS: Options = &[(c"source", c"sysfs")];
    const DEVICES: Options = &[(c"source", c"tmpfs"), (c"mode", c"755"), (c"size", c"64k")];
    const QUEUES: Options = &[(c"source", c"mqueue")];
    const TERMINALS: Options =
        &[(c"source", c"devpts"), (c"ptmxmode", c"0666"), (c"mode", c"0620"), (c"gid", c"5")];
    let terminals = if tty { TERMINALS } else { TERMINALS.get(..3).unwrap_or_default() };
    let kinds = [
        (c"tmpfs", MEMORY),
        (c"tmpfs", MEMORY),
        (c"sysfs", SYS),
        (c"tmpfs", DEVICES),
        (c"devpts", terminals),
        (c"mqueue", QUEUES),
    ];
    for (place, (kind, options)) in places.iter_mut().zip(kinds) {
        *place = file_system(kind, options)?;
    }
    Ok(())
}

/// fsopen(2), its options, and what makes it one.
fn file_system(kind: &CStr, options: Options) -> Result<i32, Errno> {
    const FSOPEN_CLOEXEC: u64 = 1;
    const FSCONFIG_SET_STRING: u64 = 1;
    const FSCONFIG_CMD_CREATE: u64 = 6;
    let kind = kind.as_ptr() as u64;
    // SAFETY: the name is a string.
    let context = unsafe { syscall(nr::FSOPEN, [kind, FSOPEN_CLOEXEC, 0, 0, 0, 0]) }? as u64;
    for (key, value) in options {
        let (key, value) = (key.as_ptr() as u64, value.as_ptr() as u64);
        // SAFETY: key and value are strings.
        unsafe { syscall(nr::FSCONFIG, [context, FSCONFIG_SET_STRING, key, value, 0, 0]) }?;
    }
    // SAFETY: takes no pointer that is not null.
    unsafe { syscall(nr::FSCONFIG, [context, FSCONFIG_CMD_CREATE, 0, 0, 0, 0]) }?;
    Ok(context as i32)
}

/// A user may have only so many descriptors on the way from one process to another as one process may have open:
/// unix(7), `ETOOMANYREFS`. Containers send some too, and this user's other processes may have lower limits: so
/// nothing is sent where many are on the way already. Whether anything may be.
fn leave_room_for_others(limit: u64) -> bool {
    const MANY: u64 = 72;
    let most = MANY.min(limit / 4);
    let limits = [most; 2];
    let place = limits.as_ptr() as u64;
    // SAFETY: the kernel reads the two words of a `struct rlimit64`.
    most >= ahead::DESCRIPTORS as u64
        && unsafe { syscall(nr::PRLIMIT64, [0, RLIMIT_NOFILE, place, 0, 0, 0]) }.is_ok()
}

fn send(through: i32, made: &Made, descriptors: &[i32]) -> bool {
    const MSG_DONTWAIT: u64 = 0x40;
    const MSG_NOSIGNAL: u64 = 0x4000;
    let part = [core::ptr::from_ref(made) as u64, size_of::<Made>() as u64];
    let mut rights = DescriptorRights::of(descriptors);
    let header = MessageWithDescriptor::new(&part, &mut rights);
    let (place, flags) = (&raw const header as u64, MSG_DONTWAIT | MSG_NOSIGNAL);
    // SAFETY: the header and what it points to live on this stack.
    unsafe { syscall(nr::SENDMSG, [through as u64, place, flags, 0, 0, 0]) }.is_ok()
}

/// `ip link set lo up`.
fn loopback_up() -> bool {
    const AF_INET: u64 = 2;
    const SOCK_DGRAM: u64 = 2;
    const SOCK_CLOEXEC: u64 = 0o2_000_000;
    const SIOCSIFFLAGS: u64 = 0x8914;
    const UP_AND_RUNNING: u16 = 0x41;
    // SAFETY: takes no pointer.
    let socket = unsafe { syscall(nr::SOCKET, [AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0, 0, 0, 0]) };
    let Ok(socket) = socket else { return false };
    // struct ifreq: the name in 16 bytes, then the flags.
    let mut request = [0_u8; 40];
    let [low, high] = UP_AND_RUNNING.to_ne_bytes();
    (request[0], request[1], request[16], request[17]) = (b'l', b'o', low, high);
    let place = request.as_ptr() as u64;
    // SAFETY: the kernel reads the request.
    let up = unsafe { syscall(nr::IOCTL, [socket as u64, SIOCSIFFLAGS, place, 0, 0, 0]) };
    close(socket as i32);
    up.is_ok()
}

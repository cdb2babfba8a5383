//! The process that makes spare namespaces, and file systems of theirs, while nobody waits for them: they are
//! what takes most of the time that a container takes.
//!
//! It goes into new namespaces and sends descriptors, which are all that is left when it has ended. Nobody is
//! mapped in them: the caller writes the maps of the container that uses them, with the privileges that it has
//! then. The file systems are mounted nowhere: a container mounts them where it would mount its own.

use crate::close_all_but;
use crate::file::{close, open};
use crate::program::ahead;
use crate::raw::{Errno, exit, nr, syscall};
use crate::reaper::{DescriptorRights, MessageWithDescriptor};

const CLONE_NEWNS: u64 = 0x0002_0000;
const CLONE_NEWIPC: u64 = 0x0800_0000;
const CLONE_NEWUSER: u64 = 0x1000_0000;
const CLONE_NEWNET: u64 = 0x4000_0000;
/// A file system belongs to the user namespace that the mount namespace does; that is not used otherwise.
const NEW: u64 = CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWNS;

const RLIMIT_NOFILE: u64 = 7;

/// Makes them, sends them through this socket, and ends. `limit`: how many descriptors the caller may have.
pub(crate) fn make(through: i32, limit: u64) -> ! {
    // What the watchdog watches is not to be held open here.
    close_all_but([through, through]);
    // SAFETY: takes no pointer; this process has one thread, and shares nothing.
    if unsafe { syscall(nr::UNSHARE, [NEW, 0, 0, 0, 0, 0]) }.is_err() || !loopback_up() {
        exit(1);
    }
    let mut descriptors = [-1; ahead::DESCRIPTORS];
    let (namespaces, file_systems) = descriptors.split_at_mut(ahead::NAMESPACES);
    let paths: [&[u8]; ahead::NAMESPACES] =
        [b"/proc/self/ns/user\0", b"/proc/self/ns/net\0", b"/proc/self/ns/ipc\0"];
    for (place, path) in namespaces.iter_mut().zip(paths) {
        let Some(namespace) = open(path) else { exit(1) };
        *place = namespace;
    }
    let made = make_file_systems(file_systems).is_ok();
    let count = if made { ahead::DESCRIPTORS } else { ahead::NAMESPACES };
    leave_room_for_others(limit);
    send(through, u8::from(made), descriptors.get(..count).unwrap_or_default());
    exit(0)
}

/// Those of [`ahead::FILE_SYSTEMS`].
fn make_file_systems(places: &mut [i32]) -> Result<(), Errno> {
    type Options = &'static [(&'static core::ffi::CStr, &'static core::ffi::CStr)];
    /// What they would be mounted with.
    const MEMORY: Options = &[(c"source", c"tmpfs"), (c"mode", c"1777")];
    const SYS: Options = &[(c"source", c"sysfs")];
    const DEVICES: Options = &[(c"source", c"tmpfs"), (c"mode", c"755"), (c"size", c"64k")];
    let kinds = [(c"tmpfs", MEMORY), (c"tmpfs", MEMORY), (c"sysfs", SYS), (c"tmpfs", DEVICES)];
    for (place, (kind, options)) in places.iter_mut().zip(kinds) {
        *place = file_system(kind, options)?;
    }
    Ok(())
}

/// fsopen(2), its options, and what makes it one. A directory that it begins with belongs to the user that this
/// process is outside.
fn file_system(
    kind: &core::ffi::CStr,
    options: &[(&core::ffi::CStr, &core::ffi::CStr)],
) -> Result<i32, Errno> {
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
/// nothing is sent where many are on the way already.
fn leave_room_for_others(limit: u64) {
    const MANY: u64 = 48;
    let most = MANY.min(limit / 4);
    if most < ahead::DESCRIPTORS as u64 {
        exit(1);
    }
    let limits = [most; 2];
    let place = limits.as_ptr() as u64;
    // SAFETY: the kernel reads the two words of a `struct rlimit64`.
    if unsafe { syscall(nr::PRLIMIT64, [0, RLIMIT_NOFILE, place, 0, 0, 0]) }.is_err() {
        exit(1);
    }
}

fn send(through: i32, what: u8, descriptors: &[i32]) {
    const MSG_DONTWAIT: u64 = 0x40;
    const MSG_NOSIGNAL: u64 = 0x4000;
    let part = [&raw const what as u64, 1];
    let mut rights = DescriptorRights::of(descriptors);
    let header = MessageWithDescriptor::new(&part, &mut rights);
    let (place, flags) = (&raw const header as u64, MSG_DONTWAIT | MSG_NOSIGNAL);
    // SAFETY: the header and what it points to live on this stack.
    let _ = unsafe { syscall(nr::SENDMSG, [through as u64, place, flags, 0, 0, 0]) };
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

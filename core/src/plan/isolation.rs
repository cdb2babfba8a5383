//! The inside of new namespaces: mounts, names, network, clocks.

use std::ffi::{CStr, CString};

use super::call::{Appended, Arg, Sequence};
use super::seclude::{self, Kernels};
use super::{Step, files, number};
use crate::error::SpecError;
use crate::host::Host;
use crate::host::files::Files;
use crate::host::hosts::hosts_file;
use crate::spec::namespaces::{Kind, NamespaceOptions};
use crate::spec::profile::Confinement;
use crate::spec::{Spec, TimeOffset};

/// A flag argument, shown by name.
macro_rules! named {
    ($($flag:ident)|+) => {
        $crate::plan::call::Arg::Named(
            0 $(| libc::$flag as u64)+,
            // The last bar goes when the name is shown.
            concat!($(stringify!($flag), "|"),+),
        )
    };
}
pub(crate) use named;

/// Paths are taken from the working directory, as everywhere.
pub(crate) fn at_cwd() -> Arg {
    Arg::Named(i64::from(libc::AT_FDCWD) as u64, "AT_FDCWD")
}

/// What takes no mapped id, so that it can be done while the caller still writes the id maps.
pub(super) fn isolate_without_ids(sequence: &mut Sequence, spec: &Spec, new: NamespaceOptions) {
    if new.contains(Kind::Uts) {
        set_names(sequence, spec);
    }
    if new.contains(Kind::Net) {
        loopback_up(sequence);
    }
    if new.contains(Kind::Mount) {
        let flags = named!(MS_REC | MS_PRIVATE);
        mount(sequence, Step::PrivateMounts, None, c"/", None, flags, None)
            .note("mounts made inside stay inside");
    }
}

/// What the inside of new namespaces depends on.
pub(super) struct Inside<'a> {
    pub(super) spec: &'a Spec,
    /// Which namespaces are new.
    pub(super) new: NamespaceOptions,
    /// Whether the network is not the caller's, be it new or entered.
    pub(super) other_net: bool,
    /// The range of group ids inside that may use ICMP sockets.
    pub(super) pingers: (u32, u32),
    pub(super) host: &'a Host,
    /// What is known of the files, where there is more to them than the host's own.
    pub(super) files: Option<&'a Files>,
}

impl Inside<'_> {
    /// The profile, where it covers files.
    pub(super) fn secluded(&self) -> Option<&'static Confinement> {
        let confinement = self.spec.confine.profile.confinement();
        (self.new.contains(Kind::Mount) && confinement.covers_files()).then_some(confinement)
    }
}

/// Everything else that makes the inside of the new namespaces; where /proc and /sys then are.
pub(super) fn isolate(sequence: &mut Sequence, inside: &Inside<'_>) -> Kernels {
    let Inside { spec, new, .. } = *inside;
    let mut kernels = Kernels::Paths;
    if new.contains(Kind::Time) {
        sequence.await_id_maps();
        set_clocks(sequence, spec);
    }
    if new.contains(Kind::Mount) {
        if let Some(files) = inside.files {
            kernels = files::build(sequence, inside, files);
        } else {
            if inside.secluded().is_some() {
                sequence.await_id_maps();
            }
            mount_on_hosts_root(sequence, inside);
        }
    }
    if new.contains(Kind::Net) {
        sequence.await_id_maps();
        allow_ping(sequence, inside.pingers, kernels);
    }
    if inside.secluded().is_some() {
        seclude::read_only_paths(sequence, inside, kernels);
    }
    kernels
}

/// What the host's own root gets in any case.
pub(super) fn mount_on_hosts_root(sequence: &mut Sequence, inside: &Inside<'_>) {
    let Inside { spec, new, other_net, host, .. } = *inside;
    if inside.secluded().is_some() {
        seclude::restrict_root(sequence, spec, (at_cwd(), c"/"));
    }
    if new.contains(Kind::Pid) {
        let flags = named!(MS_NOSUID | MS_NODEV | MS_NOEXEC);
        mount(sequence, Step::MountProc, Some(c"proc"), c"/proc", Some(c"proc"), flags, None)
            .note("/proc shows the new PID namespace");
    }
    if other_net && host.sys {
        fresh_sysfs(sequence, inside);
    }
    if inside.secluded().is_some() {
        seclude::cover(sequence, inside);
    } else if new.contains(Kind::Ipc) {
        private_shared_memory(sequence, inside);
    }
    if let (Some(hostname), Some(hosts)) = (&spec.hostname, &host.hosts) {
        let content = hosts_file(hostname, spec.domainname.as_deref(), hosts);
        sequence.await_id_maps();
        bind_hosts(sequence, &content, inside);
    }
}

/// mount(2).
pub(crate) fn mount<'a>(
    sequence: &'a mut Sequence,
    step: Step,
    source: Option<&CStr>,
    target: &CStr,
    kind: Option<&CStr>,
    flags: Arg,
    data: Option<&CStr>,
) -> Appended<'a> {
    let mut optional = |text: Option<&CStr>| text.map_or(Arg::Null, |text| sequence.text(text));
    let args = [optional(source), optional(Some(target)), optional(kind), flags, optional(data)];
    sequence.call(step, number::MOUNT, args).about(target)
}

/// open, write, close of a small file that is there already.
pub(super) fn write_file(
    sequence: &mut Sequence,
    step: Step,
    at: (Arg, &CStr),
    content: &[u8],
    optional: bool,
) {
    let flags = named!(O_WRONLY | O_CLOEXEC);
    open_write_close(sequence, step, at, content, flags, None, optional);
}

/// The same of a file at `path`, seen from a directory; with `mode` it is made.
fn open_write_close(
    sequence: &mut Sequence,
    step: Step,
    (directory, path): (Arg, &CStr),
    content: &[u8],
    flags: Arg,
    mode: Option<u32>,
    optional: bool,
) {
    let file = sequence.cell();
    let name = sequence.text(path);
    let open = [directory, name, flags, mode.unwrap_or(0).into()];
    sequence.call(step, number::OPENAT, open).about(path).into(file).ignore_if(optional);
    if let Some(mode) = mode {
        // Whatever the caller's umask is, everybody inside may read it.
        let args = [file.into(), Arg::mode(mode)];
        sequence.call(step, number::FCHMOD, args).about(path).ignore_if(optional);
    }
    let buffer = sequence.buffer(content);
    let write = [file.into(), buffer, content.len().into()];
    sequence.call(step, number::WRITE, write).about(path).ignore_if(optional);
    sequence.call(step, number::CLOSE, [file.into()]).ignore_if(optional);
}

fn set_clocks(sequence: &mut Sequence, spec: &Spec) {
    sequence
        .call(Step::Time, number::UNSHARE, [named!(CLONE_NEWTIME)])
        .note("clone(2) cannot carry this flag; it takes effect at exec");
    let line = |clock: &str, offset: Option<TimeOffset>| {
        offset.map(|at| format!("{clock} {} {}\n", at.seconds, at.nanoseconds)).unwrap_or_default()
    };
    let offsets =
        line("monotonic", spec.monotonic_offset) + &line("boottime", spec.boottime_offset);
    if !offsets.is_empty() {
        let at = (at_cwd(), c"/proc/self/timens_offsets");
        write_file(sequence, Step::Time, at, offsets.as_bytes(), false);
    }
}

fn set_names(sequence: &mut Sequence, spec: &Spec) {
    for (name, step, number) in [
        (&spec.hostname, Step::Hostname, number::SETHOSTNAME),
        (&spec.domainname, Step::Domainname, number::SETDOMAINNAME),
    ] {
        if let Some(name) = name {
            let buffer = sequence.buffer(name);
            sequence.call(step, number, [buffer, name.len().into()]);
        }
    }
}

/// `ip link set lo up`, which gives `127.0.0.1` and `::1`.
fn loopback_up(sequence: &mut Sequence) {
    let socket = sequence.cell();
    let args = [named!(AF_INET), named!(SOCK_DGRAM | SOCK_CLOEXEC), Arg::Int(0)];
    sequence.call(Step::Loopback, number::SOCKET, args).into(socket);
    // struct ifreq: the name in 16 bytes, then the flags.
    let mut request = [0_u8; 40];
    request[..2].copy_from_slice(b"lo");
    let flags = (libc::IFF_UP | libc::IFF_RUNNING) as u16;
    request[16..18].copy_from_slice(&flags.to_ne_bytes());
    let request = sequence.structure(&request, "{\"lo\", IFF_UP|IFF_RUNNING}");
    let args = [socket.into(), named!(SIOCSIFFLAGS), request];
    sequence.call(Step::Loopback, number::IOCTL, args).note("127.0.0.1 and ::1");
    sequence.call(Step::Loopback, number::CLOSE, [socket.into()]);
}

/// A sysfs that shows the container's network. What is mounted on /sys/fs/cgroup is carried over.
fn fresh_sysfs(sequence: &mut Sequence, inside: &Inside<'_>) {
    const STEP: Step = Step::MountSys;
    const CGROUP: &CStr = c"/sys/fs/cgroup";
    let tree = inside.host.sys_cgroup.then(|| {
        let tree = sequence.cell();
        let path = sequence.text(CGROUP);
        let flags = named!(OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
        let args = [at_cwd(), path, flags];
        sequence.call(STEP, number::OPEN_TREE, args).about(CGROUP).into(tree);
        tree
    });
    let flags = named!(MS_NOSUID | MS_NODEV | MS_NOEXEC);
    mount(sequence, STEP, Some(c"sysfs"), c"/sys", Some(c"sysfs"), flags, None)
        .note("/sys shows the container's network");
    if let Some(tree) = tree {
        let (empty, path) = (sequence.text(c""), sequence.text(CGROUP));
        let args = [tree.into(), empty, at_cwd(), path, named!(MOVE_MOUNT_F_EMPTY_PATH)];
        sequence.call(STEP, number::MOVE_MOUNT, args).about(CGROUP);
        sequence.call(STEP, number::CLOSE, [tree.into()]);
    }
}

/// Where POSIX shared memory is.
const SHM: &CStr = c"/dev/shm";

/// An empty file system for it.
fn fresh_shm(sequence: &mut Sequence, step: Step) -> Appended<'_> {
    let (kind, flags) = (Some(c"tmpfs"), named!(MS_NOSUID | MS_NODEV));
    mount(sequence, step, kind, SHM, kind, flags, Some(c"mode=1777"))
}

/// POSIX shared memory is a file system, and the IPC namespace does not cover it; message queues
/// are shown by one.
fn private_shared_memory(sequence: &mut Sequence, inside: &Inside<'_>) {
    const STEP: Step = Step::MountShm;
    if inside.host.shm {
        fresh_shm(sequence, STEP);
    }
    if inside.host.mqueue {
        let (kind, flags) = (Some(c"mqueue"), named!(MS_NOSUID | MS_NODEV));
        mount(sequence, STEP, kind, c"/dev/mqueue", kind, flags, None);
    }
}

/// Puts a hosts file of its own over /etc/hosts: a file on a tmpfs, bound, and then out of sight, so
/// that only the bound one is seen. It is not unlinked: on a file without a name nothing can be
/// mounted any more, and a container inside this one mounts its own there.
fn bind_hosts(sequence: &mut Sequence, content: &[u8], inside: &Inside<'_>) {
    const STEP: Step = Step::Hosts;
    let shm_is_private = inside.new.contains(Kind::Ipc) && inside.host.shm;
    // Without a tmpfs of the container's own there is one for as long as it takes.
    let (directory, file) = if shm_is_private {
        (None, c"/dev/shm/.minidocker-hosts")
    } else {
        (Some(c"/tmp"), c"/tmp/.minidocker-hosts")
    };
    if let Some(directory) = directory {
        let flags = named!(MS_NOSUID | MS_NODEV);
        mount(sequence, STEP, Some(c"tmpfs"), directory, Some(c"tmpfs"), flags, None);
    }
    let flags = named!(O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC);
    open_write_close(sequence, STEP, (at_cwd(), file), content, flags, Some(0o644), false);
    mount(sequence, STEP, Some(file), c"/etc/hosts", None, named!(MS_BIND), None);
    if let Some(directory) = directory {
        let path = sequence.text(directory);
        sequence.call(STEP, number::UMOUNT2, [path, named!(MNT_DETACH)]).about(directory);
    } else {
        fresh_shm(sequence, STEP).note("covers the file's other name");
    }
}

/// A new network namespace forbids ICMP sockets even to its root. Where /proc/sys cannot be
/// written, ping needs `CAP_NET_RAW`, which root inside has.
fn allow_ping(sequence: &mut Sequence, (first, last): (u32, u32), kernels: Kernels) {
    let range = format!("{first} {last}");
    let at = kernels.in_proc(c"/proc/sys/net/ipv4/ping_group_range");
    write_file(sequence, Step::Ping, at, range.as_bytes(), true);
}

/// Refuses names that sethostname(2) would, and options whose namespace is shared.
pub(super) fn check(spec: &Spec) -> Result<(), SpecError> {
    let show = |name: &[u8]| format!("{:?}", String::from_utf8_lossy(name));
    for (option, name) in [("hostname", &spec.hostname), ("domainname", &spec.domainname)] {
        let Some(name) = name else { continue };
        let wrong =
            |reason: String, remedy: &str| Err(SpecError::new(option, show(name), reason, remedy));
        if !(1..=64).contains(&name.len()) {
            return wrong(format!("it has {} bytes", name.len()), "Give 1 to 64 bytes");
        }
        if CString::new(name.as_slice()).is_err() || name.iter().any(u8::is_ascii_whitespace) {
            return wrong("it has a NUL or white space in it".into(), "Leave that character out");
        }
        if !spec.namespaces.contains(Kind::Uts) {
            return wrong(
                "setting it would change the caller's, since the UTS namespace is shared".into(),
                "Make the UTS namespace new: NamespaceOptions.with_uts()",
            );
        }
    }
    let offsets = [spec.monotonic_offset, spec.boottime_offset];
    if offsets.iter().any(Option::is_some) && !spec.namespaces.contains(Kind::Time) {
        return Err(SpecError::new(
            "time_offsets",
            "…",
            "clocks can only be set in a new time namespace",
            "Make the time namespace new: NamespaceOptions.all().with_time()",
        ));
    }
    if spec.init && !spec.namespaces.contains(Kind::Pid) {
        return Err(SpecError::new(
            "init",
            "True",
            "only a new PID namespace has a PID 1",
            "Leave init out, or make the PID namespace new: NamespaceOptions.with_pid()",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_hostname_is_counted_in_bytes() {
        let spec = |name: &str| Spec { hostname: Some(name.into()), ..Spec::default() };
        assert!(check(&spec(&"é".repeat(32))).is_ok());
        assert!(check(&spec(&"é".repeat(33))).is_err());
        assert!(check(&spec(&"a".repeat(64))).is_ok());
        assert!(check(&spec(&"a".repeat(65))).is_err());
        assert!(check(&spec("")).is_err());
    }
}

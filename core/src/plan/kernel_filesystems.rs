//! The kernel's own file systems: /proc, /sys, /dev/shm, /dev/mqueue, and the options of a devpts.

use std::ffi::CStr;

use super::call::{Arg, Cell, at_cwd, named};
use super::ids::has_group;
use super::mount_calls::{attribute_names, clone_tree, mount};
use super::number;
use super::sequence::{Appended, Sequence};
use super::setup::NamespaceSetup;
use super::text::bit_names;
use crate::host::Host;
use crate::host::files::OwnPlaces;
use crate::host::kernel_mounts::{AccessTimes, Attributes};
use crate::spec::Spec;
use crate::spec::namespaces::{Kind, NamespaceOptions};
use crate::step::Step;

/// How to reach /proc and /sys once they are mounted.
#[derive(Clone, Copy, Debug)]
pub(super) enum KernelFilesystems {
    /// By their paths, in the host's root.
    Paths,
    /// By descriptors, in a root of its own: another process may change that root, so that a path leads elsewhere.
    Descriptors { proc: Cell, sys: Option<Cell> },
}

impl KernelFilesystems {
    /// A file in /proc: a directory, and the path relative to it.
    pub(super) fn in_proc(self, path: &CStr) -> (Arg, &CStr) {
        let below = path.to_bytes_with_nul().strip_prefix(b"/proc/");
        match (self, below.and_then(|below| CStr::from_bytes_with_nul(below).ok())) {
            (Self::Descriptors { proc, .. }, Some(below)) => (proc.into(), below),
            _ => (at_cwd(), path),
        }
    }
}

/// Trees of the kernel's own file systems that are not attached yet.
#[derive(Clone, Copy)]
pub(super) struct KernelTrees {
    pub(super) proc: Cell,
    pub(super) sys: Option<Cell>,
    /// The tree for /sys/fs/cgroup.
    pub(super) cgroups: Option<Cell>,
}

/// The trees for /proc and /sys, not attached yet.
pub(super) fn kernel_trees(
    sequence: &mut Sequence,
    setup: &NamespaceSetup<'_>,
    own: &OwnPlaces,
) -> KernelTrees {
    let (sys, cgroups) = if own.sys.is_some() { sys_tree(sequence, setup) } else { (None, None) };
    KernelTrees { proc: proc_tree(sequence, setup), sys, cgroups }
}

fn sys_tree(sequence: &mut Sequence, setup: &NamespaceSetup<'_>) -> (Option<Cell>, Option<Cell>) {
    const STEP: Step = Step::MountSys;
    if !(setup.other_net && setup.host.sys) {
        return (Some(clone_tree(sequence, STEP, at_cwd(), c"/sys", true)), None);
    }
    let cgroups = setup
        .host
        .sys_cgroup
        .then(|| clone_tree(sequence, STEP, at_cwd(), c"/sys/fs/cgroup", true));
    let sys = kernel_file_system(sequence, STEP, c"sysfs", setup.host.sys_attributes);
    (Some(sys), cgroups)
}

fn proc_tree(sequence: &mut Sequence, setup: &NamespaceSetup<'_>) -> Cell {
    const STEP: Step = Step::MountProc;
    if setup.new.contains(Kind::Pid) {
        kernel_file_system(sequence, STEP, c"proc", setup.host.proc_attributes)
    } else {
        clone_tree(sequence, STEP, at_cwd(), c"/proc", true)
    }
}

/// A file system of the kernel that is not attached yet. Paths relative to its descriptor stay in it, even if another
/// process changes the directories above it.
fn kernel_file_system(
    sequence: &mut Sequence,
    step: Step,
    kind: &CStr,
    attributes: Attributes,
) -> Cell {
    let (context, tree) = (sequence.cell(), sequence.cell());
    let args = [sequence.text(kind), named!(FSOPEN_CLOEXEC)];
    sequence.call(step, number::FSOPEN, args).into(context);
    // The source that /proc/PID/mountinfo shows, as after mount(2).
    let (key, name) = (sequence.text(c"source"), sequence.text(kind));
    let args = [context.into(), named!(FSCONFIG_SET_STRING), key, name, Arg::Int(0)];
    sequence.call(step, number::FSCONFIG, args);
    let args = [context.into(), named!(FSCONFIG_CMD_CREATE), Arg::Null, Arg::Null, Arg::Int(0)];
    sequence.call(step, number::FSCONFIG, args);
    let args = [context.into(), named!(FSMOUNT_CLOEXEC), fsmount_attributes(attributes)];
    sequence
        .call(step, number::FSMOUNT, args)
        .note("for the container's own namespaces")
        .into(tree);
    tree
}

/// The attributes of a new proc or sysfs, for `fsmount(2)`: those of the caller's, and no programs or devices.
fn fsmount_attributes(attributes: Attributes) -> Arg {
    let mut bits = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
    for (wanted, bit) in [
        (attributes.read_only, libc::MOUNT_ATTR_RDONLY),
        (attributes.access_times == AccessTimes::Never, libc::MOUNT_ATTR_NOATIME),
        (attributes.access_times == AccessTimes::Strict, libc::MOUNT_ATTR_STRICTATIME),
        (attributes.no_directory_access_times, libc::MOUNT_ATTR_NODIRATIME),
    ] {
        bits |= if wanted { bit } else { 0 };
    }
    Arg::Shown(bits, attribute_names)
}

/// The same attributes for mount(2).
fn mount_flags(attributes: Attributes) -> Arg {
    let mut flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    for (wanted, flag) in [
        (attributes.read_only, libc::MS_RDONLY),
        (attributes.access_times == AccessTimes::Never, libc::MS_NOATIME),
        (attributes.access_times == AccessTimes::Strict, libc::MS_STRICTATIME),
        (attributes.no_directory_access_times, libc::MS_NODIRATIME),
    ] {
        flags |= if wanted { flag } else { 0 };
    }
    Arg::Shown(flags, |flags| {
        bit_names(
            flags,
            &[
                (libc::MS_NOSUID, "MS_NOSUID"),
                (libc::MS_NODEV, "MS_NODEV"),
                (libc::MS_NOEXEC, "MS_NOEXEC"),
                (libc::MS_RDONLY, "MS_RDONLY"),
                (libc::MS_NOATIME, "MS_NOATIME"),
                (libc::MS_STRICTATIME, "MS_STRICTATIME"),
                (libc::MS_NODIRATIME, "MS_NODIRATIME"),
            ],
        )
    })
}

/// Mounts a proc that shows the container's processes.
pub(super) fn fresh_proc(sequence: &mut Sequence, setup: &NamespaceSetup<'_>) {
    let (kind, flags) = (Some(c"proc"), mount_flags(setup.host.proc_attributes));
    mount(sequence, Step::MountProc, kind, c"/proc", kind, flags, None)
        .note("/proc shows the new PID namespace");
}

/// Mounts a sysfs that shows the container's network, and carries over the mount on /sys/fs/cgroup.
pub(super) fn fresh_sysfs(sequence: &mut Sequence, setup: &NamespaceSetup<'_>) {
    const STEP: Step = Step::MountSys;
    const CGROUP: &CStr = c"/sys/fs/cgroup";
    let tree = setup.host.sys_cgroup.then(|| {
        let tree = sequence.cell();
        let path = sequence.text(CGROUP);
        let flags = named!(OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
        let args = [at_cwd(), path, flags];
        sequence.call(STEP, number::OPEN_TREE, args).about(CGROUP).into(tree);
        tree
    });
    let flags = mount_flags(setup.host.sys_attributes);
    mount(sequence, STEP, Some(c"sysfs"), c"/sys", Some(c"sysfs"), flags, None)
        .note("/sys shows the container's network");
    if let Some(tree) = tree {
        let (empty, path) = (sequence.text(c""), sequence.text(CGROUP));
        let args = [tree.into(), empty, at_cwd(), path, named!(MOVE_MOUNT_F_EMPTY_PATH)];
        sequence.call(STEP, number::MOVE_MOUNT, args).about(CGROUP);
        sequence.call(STEP, number::CLOSE, [tree.into()]);
    }
}

/// The directory of POSIX shared memory.
const SHM: &CStr = c"/dev/shm";

/// Mounts an empty file system for POSIX shared memory.
pub(super) fn fresh_shm(sequence: &mut Sequence, step: Step) -> Appended<'_> {
    let (kind, flags) = (Some(c"tmpfs"), named!(MS_NOSUID | MS_NODEV));
    mount(sequence, step, kind, SHM, kind, flags, Some(c"mode=1777"))
}

/// Mounts private POSIX shared memory and message queues. Shared memory is files, which the IPC namespace does not
/// cover. Message queues are covered, but /dev/mqueue shows those of the namespace that mounted it.
pub(super) fn private_shared_memory(sequence: &mut Sequence, setup: &NamespaceSetup<'_>) {
    const STEP: Step = Step::MountShm;
    if setup.host.shm {
        fresh_shm(sequence, STEP);
    }
    if setup.host.mqueue {
        let (kind, flags) = (Some(c"mqueue"), named!(MS_NOSUID | MS_NODEV));
        mount(sequence, STEP, kind, c"/dev/mqueue", kind, flags, None);
    }
}

/// The group of terminals.
const TTY: u32 = 5;

/// The default options of a devpts, without those that are `given`: every user may open a terminal, and the group of
/// terminals is tty if that has an id inside.
pub(super) fn devpts_data(
    spec: &Spec,
    new: NamespaceOptions,
    host: &Host,
    given: &dyn Fn(&str) -> bool,
) -> String {
    let mut data = "newinstance".to_owned();
    for (name, option, wanted) in [
        ("ptmxmode", ",ptmxmode=0666", true),
        ("mode", ",mode=0620", true),
        ("gid", ",gid=5", has_group(spec, new, host, TTY)),
    ] {
        if wanted && !given(name) {
            data.push_str(option);
        }
    }
    data
}

//! /dev, /proc, /sys, and files in /etc, for a root of the container's own.
//!
//! Exec closes the descriptors that this opens.

use std::ffi::{CStr, CString};

use crate::host::files::{OwnPlaces, Owner, Place};
use crate::plan::call::{Cell, at_cwd, named};
use crate::plan::file_calls::{
    change_to, make_content, make_directory, make_file, make_mount_points, open_in_root,
};
use crate::plan::kernel_filesystems::{KernelFilesystems, KernelTrees, devpts_data};
use crate::plan::mount_calls::{attach, attach_to, mount, set_attributes};
use crate::plan::number;
use crate::plan::sequence::Sequence;
use crate::plan::setup::NamespaceSetup;
use crate::spec::namespaces::Kind;
use crate::step::Step;

/// Links in /dev that programs rely on.
const LINKS: [(&CStr, &CStr); 5] = [
    (c"fd", c"/proc/self/fd"),
    (c"stdin", c"/proc/self/fd/0"),
    (c"stdout", c"/proc/self/fd/1"),
    (c"stderr", c"/proc/self/fd/2"),
    (c"ptmx", c"pts/ptmx"),
];

/// Mounts these in the new root. Absolute paths are still the host's.
pub(in crate::plan) fn populate(
    sequence: &mut Sequence,
    setup: &NamespaceSetup<'_>,
    own: &OwnPlaces,
    kernel_fs: KernelTrees,
    (root, shared_memory): (Cell, Option<Cell>),
) -> KernelFilesystems {
    let trees = devices(sequence, setup, own, (root, shared_memory));
    let KernelTrees { proc, sys, cgroups } = kernel_fs;
    if let (Some(tree), Some(place)) = (sys, &own.sys) {
        attach_in_root(sequence, Step::MountSys, tree, place, root);
        if let Some(cgroups) = cgroups {
            attach(sequence, Step::MountSys, cgroups, tree.into(), c"fs/cgroup");
        }
    }
    attach_in_root(sequence, Step::MountProc, proc, &own.proc, root);
    for (tree, (_, place)) in trees.into_iter().zip(&own.etc) {
        make_mount_points(sequence, root, &place.make);
        let onto = open_in_root(sequence, Step::Hosts, root, &place.path, false);
        attach_to(sequence, Step::Hosts, tree, onto, &place.path);
    }
    for Place { path, .. } in &own.private {
        let onto = open_in_root(sequence, Step::Hide, root, path, true);
        change_to(sequence, Step::Hide, onto);
        let (kind, flags) = (Some(c"tmpfs"), named!(MS_NOSUID | MS_NODEV));
        mount(sequence, Step::Hide, kind, c".", kind, flags, Some(c"mode=1777")).about(path);
    }
    KernelFilesystems::Descriptors { proc, sys }
}

/// Mounts /dev, and returns the trees of the files for /etc, which are created there.
fn devices(
    sequence: &mut Sequence,
    setup: &NamespaceSetup<'_>,
    own: &OwnPlaces,
    (root, shm): (Cell, Option<Cell>),
) -> Vec<Cell> {
    const STEP: Step = Step::Dev;
    make_mount_points(sequence, root, &own.dev.make);
    let onto = open_in_root(sequence, STEP, root, &own.dev.path, true);
    change_to(sequence, STEP, onto);
    let kind = Some(c"tmpfs");
    let data = Some(c"mode=755,size=64k");
    // Each device is a separate mount, so MS_NODEV does not apply to it.
    let flags = if setup.spec.confine.profile.confinement().covers_files() {
        named!(MS_NOSUID | MS_NODEV | MS_NOEXEC)
    } else {
        named!(MS_NOSUID | MS_NOEXEC)
    };
    mount(sequence, STEP, kind, c".", kind, flags, data).about(c"/dev");
    // From here on paths are relative to the new /dev, in which no other process can put a link.
    let dev = open_in_root(sequence, STEP, root, &own.dev.path, true);
    change_to(sequence, STEP, dev);
    for (name, path) in &own.devices {
        make_file(sequence, STEP, at_cwd(), name, Owner::FILE.mode, false);
        mount(sequence, STEP, Some(path), name, None, named!(MS_BIND), None).about(path);
        if shm.is_some() {
            // This fails where the host's devices do not open. A rootfs may do without them.
            let clear = (0, libc::MOUNT_ATTR_NODEV);
            set_attributes(sequence, STEP, (at_cwd(), name), clear, false).about(path);
        }
    }
    if let Some(terminal) = &setup.host.terminal {
        make_file(sequence, STEP, at_cwd(), c"console", Owner::FILE.mode, false);
        let flags = named!(MS_BIND);
        mount(sequence, STEP, Some(terminal), c"console", None, flags, None).about(terminal);
    }
    for (name, target) in LINKS {
        let args = [sequence.text(target), at_cwd(), sequence.text(name)];
        sequence.call(STEP, number::SYMLINKAT, args).about(name);
    }
    make_directory(sequence, STEP, at_cwd(), c"pts", Owner::NEW, false);
    // The devpts covers these names right afterwards, so that the files are visible only in /etc. They are not
    // unlinked, because a container inside this one could then not mount over them.
    let etc = own.etc.iter().enumerate().map(|(number, (content, _))| {
        let name = CString::new(format!("pts/{number}")).expect("digits");
        make_content(sequence, Step::Hosts, dev, &name, (content, 0o644))
    });
    let trees = etc.collect();
    let data = devpts_data(setup.spec, setup.new, setup.host, &|_| false);
    let data = CString::new(data).expect("words");
    let kind = Some(c"devpts");
    let flags = named!(MS_NOSUID | MS_NOEXEC);
    mount(sequence, STEP, kind, c"pts", kind, flags, Some(&data));
    shared_memory(sequence, setup, shm);
    trees
}

/// /dev/shm and /dev/mqueue, relative to the new /dev: the container's own (`shm`, if the root has a tree for it), or
/// the caller's if the IPC namespace is shared.
fn shared_memory(sequence: &mut Sequence, setup: &NamespaceSetup<'_>, shm: Option<Cell>) {
    const STEP: Step = Step::MountShm;
    for (kind, name, mode, data, there) in [
        (c"tmpfs", c"shm", 0o1777, Some(c"mode=1777"), setup.host.shm),
        (c"mqueue", c"mqueue", 0o755, None, setup.host.mqueue),
    ] {
        make_directory(sequence, STEP, at_cwd(), name, Owner { mode, ..Owner::NEW }, false);
        if let Some(tree) = shm.filter(|_| kind == c"tmpfs") {
            attach(sequence, STEP, tree, at_cwd(), name);
        } else if setup.new.contains(Kind::Ipc) {
            let flags = named!(MS_NOSUID | MS_NODEV | MS_NOEXEC);
            mount(sequence, STEP, Some(kind), name, Some(kind), flags, data);
        } else if there {
            let path = format!("/dev/{}", name.to_string_lossy());
            let path = CString::new(path).expect("made of strings without a NUL");
            let flags = named!(MS_BIND | MS_REC);
            mount(sequence, STEP, Some(&path), name, None, flags, None).about(&path);
        }
    }
}

/// Attaches a tree to its place in the root.
fn attach_in_root(sequence: &mut Sequence, step: Step, tree: Cell, place: &Place, root: Cell) {
    make_mount_points(sequence, root, &place.make);
    let onto = open_in_root(sequence, step, root, &place.path, true);
    attach_to(sequence, step, tree, onto, &place.path);
}

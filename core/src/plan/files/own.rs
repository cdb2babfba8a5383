//! What every container needs in a root of its own: /dev, /proc, /sys, and files in /etc.
//!
//! The few descriptors that this takes are closed when the command is executed.

use std::ffi::{CStr, CString};

use super::mounts::{devpts_data, make};
use super::{
    Assembly, attach, attach_to, change_to, clone_tree, make_content, make_directory, make_file,
    open_in_root,
};
use crate::host::files::{OwnPlaces, Owner, Place};
use crate::plan::call::{Arg, Cell, Sequence};
use crate::plan::isolation::{at_cwd, mount, named};
use crate::plan::number;
use crate::plan::seclude::Kernels;
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

/// The kernel's own file systems, attached to nothing yet.
#[derive(Clone, Copy)]
pub(super) struct KernelsTrees {
    proc: Cell,
    sys: Option<Cell>,
    /// What belongs below /sys.
    cgroups: Option<Cell>,
}

impl Assembly<'_> {
    /// Mounts it. Until the root is entered, absolute paths are the host's.
    pub(super) fn populate(
        &self,
        sequence: &mut Sequence,
        own: &OwnPlaces,
        kernels: KernelsTrees,
        root: Cell,
    ) -> Kernels {
        let trees = self.devices(sequence, own, root);
        let KernelsTrees { proc, sys, cgroups } = kernels;
        if let (Some(tree), Some(place)) = (sys, &own.sys) {
            attach_in_root(sequence, Step::MountSys, tree, place, root);
            if let Some(cgroups) = cgroups {
                attach(sequence, Step::MountSys, cgroups, tree.into(), c"fs/cgroup");
            }
        }
        attach_in_root(sequence, Step::MountProc, proc, &own.proc, root);
        for (tree, (_, place)) in trees.into_iter().zip(&own.etc) {
            make(sequence, root, &place.make);
            let onto = open_in_root(sequence, Step::Hosts, root, &place.path, false);
            attach_to(sequence, Step::Hosts, tree, onto, &place.path);
        }
        for Place { path, .. } in &own.private {
            let onto = open_in_root(sequence, Step::Hide, root, path, true);
            change_to(sequence, Step::Hide, onto);
            let (kind, flags) = (Some(c"tmpfs"), named!(MS_NOSUID | MS_NODEV));
            mount(sequence, Step::Hide, kind, c".", kind, flags, Some(c"mode=1777")).about(path);
        }
        Kernels::Descriptors { proc, sys }
    }

    /// /dev, and the trees of the files for /etc, which need a file system to be on.
    fn devices(&self, sequence: &mut Sequence, own: &OwnPlaces, root: Cell) -> Vec<Cell> {
        const STEP: Step = Step::Dev;
        make(sequence, root, &own.dev.make);
        let onto = open_in_root(sequence, STEP, root, &own.dev.path, true);
        change_to(sequence, STEP, onto);
        let kind = Some(c"tmpfs");
        let data = Some(c"mode=755,size=64k");
        // The devices are mounts of their own: a device file that is made beside them need not open.
        let flags = if self.spec.confine.profile.confinement().covers_files() {
            named!(MS_NOSUID | MS_NODEV | MS_NOEXEC)
        } else {
            named!(MS_NOSUID | MS_NOEXEC)
        };
        mount(sequence, STEP, kind, c".", kind, flags, data).about(c"/dev");
        // Everything from here on is named from the new /dev, in which nobody else has made a link.
        let dev = open_in_root(sequence, STEP, root, &own.dev.path, true);
        change_to(sequence, STEP, dev);
        for (name, path) in &own.devices {
            make_file(sequence, STEP, at_cwd(), name, Owner::FILE.mode, false);
            mount(sequence, STEP, Some(path), name, None, named!(MS_BIND), None).about(path);
        }
        if let Some(terminal) = &self.host.terminal {
            make_file(sequence, STEP, at_cwd(), c"console", Owner::FILE.mode, false);
            let flags = named!(MS_BIND);
            mount(sequence, STEP, Some(terminal), c"console", None, flags, None).about(terminal);
        }
        for (name, target) in LINKS {
            let args = [sequence.text(target), at_cwd(), sequence.text(name)];
            sequence.call(STEP, number::SYMLINKAT, args).about(name);
        }
        make_directory(sequence, STEP, at_cwd(), c"pts", Owner::NEW, false);
        // Covered at once, since nobody shall see them twice; and not unlinked, since nothing could be
        // mounted over them by a container inside this one.
        let etc = own.etc.iter().enumerate().map(|(number, (content, _))| {
            let name = CString::new(format!("pts/{number}")).expect("digits");
            make_content(sequence, Step::Hosts, dev, &name, (content, 0o644))
        });
        let trees = etc.collect();
        let data = devpts_data(self.spec, self.new, self.host, &|_| false);
        let data = CString::new(data).expect("words");
        let kind = Some(c"devpts");
        let flags = named!(MS_NOSUID | MS_NOEXEC);
        mount(sequence, STEP, kind, c"pts", kind, flags, Some(&data));
        self.shared_memory(sequence);
        trees
    }

    /// /dev/shm and /dev/mqueue, from the new /dev: of the container's own, or the caller's where the
    /// IPC namespace is shared.
    fn shared_memory(&self, sequence: &mut Sequence) {
        const STEP: Step = Step::MountShm;
        for (kind, name, mode, data, there) in [
            (c"tmpfs", c"shm", 0o1777, Some(c"mode=1777"), self.host.shm),
            (c"mqueue", c"mqueue", 0o755, None, self.host.mqueue),
        ] {
            make_directory(sequence, STEP, at_cwd(), name, Owner { mode, ..Owner::NEW }, false);
            if self.new.contains(Kind::Ipc) {
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

    /// What belongs on /proc and /sys, attached to nothing yet.
    pub(super) fn kernels_trees(&self, sequence: &mut Sequence, own: &OwnPlaces) -> KernelsTrees {
        let (sys, cgroups) = if own.sys.is_some() { self.sys(sequence) } else { (None, None) };
        KernelsTrees { proc: self.proc(sequence), sys, cgroups }
    }

    fn sys(&self, sequence: &mut Sequence) -> (Option<Cell>, Option<Cell>) {
        const STEP: Step = Step::MountSys;
        if !(self.other_net && self.host.sys) {
            return (Some(clone_tree(sequence, STEP, at_cwd(), c"/sys", true)), None);
        }
        let cgroups = self
            .host
            .sys_cgroup
            .then(|| clone_tree(sequence, STEP, at_cwd(), c"/sys/fs/cgroup", true));
        (Some(kernel_file_system(sequence, STEP, c"sysfs")), cgroups)
    }

    fn proc(&self, sequence: &mut Sequence) -> Cell {
        const STEP: Step = Step::MountProc;
        if self.new.contains(Kind::Pid) {
            kernel_file_system(sequence, STEP, c"proc")
        } else {
            clone_tree(sequence, STEP, at_cwd(), c"/proc", true)
        }
    }
}

/// Attaches a tree where it belongs in the root.
fn attach_in_root(sequence: &mut Sequence, step: Step, tree: Cell, place: &Place, root: Cell) {
    make(sequence, root, &place.make);
    let onto = open_in_root(sequence, step, root, &place.path, true);
    attach_to(sequence, step, tree, onto, &place.path);
}

/// A file system of the kernel's, attached to nothing yet. What is then named from its descriptor is in
/// it, whatever somebody else does to the way there meanwhile.
fn kernel_file_system(sequence: &mut Sequence, step: Step, kind: &CStr) -> Cell {
    let (context, tree) = (sequence.cell(), sequence.cell());
    let args = [sequence.text(kind), named!(FSOPEN_CLOEXEC)];
    sequence.call(step, number::FSOPEN, args).into(context);
    // As mount(2) names it, for whoever reads the table of mounts.
    let (key, name) = (sequence.text(c"source"), sequence.text(kind));
    let args = [context.into(), named!(FSCONFIG_SET_STRING), key, name, Arg::Int(0)];
    sequence.call(step, number::FSCONFIG, args);
    let args = [context.into(), named!(FSCONFIG_CMD_CREATE), Arg::Null, Arg::Null, Arg::Int(0)];
    sequence.call(step, number::FSCONFIG, args);
    let attributes = named!(MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
    sequence
        .call(step, number::FSMOUNT, [context.into(), named!(FSMOUNT_CLOEXEC), attributes])
        .note("of the container's own namespaces")
        .into(tree);
    tree
}

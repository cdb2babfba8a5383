//! Calls the concerns that set up new namespaces, in their order.

use super::call::{Arg, at_cwd};
use super::file_calls::{open_directory, open_in_root};
use super::kernel_filesystems::{
    KernelFilesystems, fresh_proc, fresh_sysfs, kernel_trees, private_shared_memory,
};
use super::names::{bind_hosts, set_names};
use super::namespaces::{make_mounts_private, set_clocks};
use super::network::{allow_ping, loopback_up};
use super::root::{self, NewRoot, own};
use super::sequence::Sequence;
use super::setup::NamespaceSetup;
use super::{limits, masked, mounts, number};
use crate::host::files::{Files, Root};
use crate::host::hosts::hosts_file;
use crate::spec::Spec;
use crate::spec::namespaces::{Kind, NamespaceOptions};
use crate::step::Step;

/// Calls that need no mapped id: the child makes them while the caller writes the id maps.
pub(super) fn set_up_without_ids(sequence: &mut Sequence, spec: &Spec, new: NamespaceOptions) {
    if new.contains(Kind::Uts) {
        set_names(sequence, spec);
    }
    if new.contains(Kind::Net) {
        loopback_up(sequence);
    }
    if new.contains(Kind::Mount) {
        make_mounts_private(sequence);
    }
}

/// The calls that need mapped ids. Returns how to reach /proc and /sys after them.
pub(super) fn set_up(sequence: &mut Sequence, setup: &NamespaceSetup<'_>) -> KernelFilesystems {
    let NamespaceSetup { spec, new, .. } = *setup;
    let mut kernel_fs = KernelFilesystems::Paths;
    if new.contains(Kind::Time) {
        sequence.await_id_maps();
        set_clocks(sequence, spec);
    }
    if new.contains(Kind::Mount) {
        limits::raise_file_size(sequence, setup.host);
        if let Some(files) = setup.files {
            kernel_fs = set_up_files(sequence, setup, files);
        } else {
            if setup.masked().is_some() {
                sequence.await_id_maps();
            }
            mount_on_hosts_root(sequence, setup);
        }
        limits::restore_file_size(sequence, setup.host);
    }
    if new.contains(Kind::Net) {
        sequence.await_id_maps();
        allow_ping(sequence, setup.ping_group_range, kernel_fs);
    }
    if new.contains(Kind::User) {
        limits::set_user_limits(sequence, spec.confine.profile.confinement(), kernel_fs);
    }
    if setup.masked().is_some() {
        masked::read_only_paths(sequence, setup, kernel_fs);
    }
    kernel_fs
}

/// Sets up the files of the container: its root, and the mounts in it.
fn set_up_files(
    sequence: &mut Sequence,
    setup: &NamespaceSetup<'_>,
    files: &Files,
) -> KernelFilesystems {
    let mut kernel_fs = KernelFilesystems::Paths;
    let NamespaceSetup { spec, host, .. } = *setup;
    // These trees need no mapped id. The calls after that may: the caller may reach some files only as root inside.
    let trees = files.own.as_ref().map(|own| kernel_trees(sequence, setup, own));
    sequence.await_id_maps();
    // The caller's umask must not change the modes that follow.
    let umask = sequence.cell();
    sequence
        .call(Step::MakeRoot, number::UMASK, [Arg::mode(0)])
        .note("the modes that follow are exact")
        .into(umask);
    let sources = mounts::open_sources(sequence, setup, files);
    let NewRoot { root, stacked, shared_memory } = root::make_root(sequence, setup, files);
    if let (Some(root), Some(own), Some(trees)) = (root, &files.own, trees) {
        let masked = setup.masked();
        if masked.is_some() && !matches!(files.root, Root::Listed(_)) {
            masked::restrict_root(sequence, spec, (root.into(), c""));
        }
        kernel_fs = own::populate(sequence, setup, own, trees, (root, shared_memory));
        if let Some(confinement) = masked {
            masked::make_covers(sequence);
            let mut masked_fs = kernel_fs;
            if let (KernelFilesystems::Descriptors { sys, .. }, Root::Listed(_)) =
                (&mut masked_fs, &files.root)
                && host.kernel.throttled_cpus > 0
            {
                // Parts of the host's sysfs are in this directory.
                *sys = Some(open_in_root(sequence, Step::Hide, root, c"sys", true));
            }
            masked::mask(sequence, confinement, host, masked_fs);
        }
        mounts::mount_all(sequence, setup, files, &sources, root);
        mounts::create_linked_files(sequence, files, root);
        root::enter(sequence, root, stacked);
    } else {
        // The new root has all of the host's files, so it becomes / at once.
        if let Some(root) = root {
            root::enter(sequence, root, stacked);
        }
        mount_on_hosts_root(sequence, setup);
        if !(spec.mounts.is_empty() && files.linked.is_empty()) {
            let root = open_directory(sequence, Step::Mount, c"/");
            mounts::mount_all(sequence, setup, files, &sources, root);
            mounts::create_linked_files(sequence, files, root);
        }
    }
    sequence.call(Step::MakeRoot, number::UMASK, [umask.into()]);
    kernel_fs
}

/// The mounts on the host's own root.
fn mount_on_hosts_root(sequence: &mut Sequence, setup: &NamespaceSetup<'_>) {
    let NamespaceSetup { spec, new, other_net, host, .. } = *setup;
    if setup.masked().is_some() {
        masked::restrict_root(sequence, spec, (at_cwd(), c"/"));
    }
    if new.contains(Kind::Pid) {
        fresh_proc(sequence, setup);
    }
    if other_net && host.sys {
        fresh_sysfs(sequence, setup);
    }
    if setup.masked().is_some() {
        masked::cover(sequence, setup);
    } else if new.contains(Kind::Ipc) {
        private_shared_memory(sequence, setup);
    }
    if let (Some(hostname), Some(hosts)) = (&spec.hostname, &host.hosts) {
        let content = hosts_file(hostname, spec.domainname.as_deref(), hosts);
        sequence.await_id_maps();
        bind_hosts(sequence, &content, setup);
    }
}

//! Resource limits.

use super::call::{Arg, named};
use super::kernel_filesystems::KernelFilesystems;
use super::number;
use super::sequence::Sequence;
use crate::host::Host;
use crate::spec::confine::Confine;
use crate::spec::profile::Confinement;
use crate::spec::ulimits::{UNLIMITED, Ulimit};
use crate::step::Step;

/// The limits of the specification, and those of the profile that are below the caller's.
pub(super) fn ulimits(confine: &Confine, host: &Host) -> Vec<Ulimit> {
    let given = &confine.ulimits;
    let lowered = confine.profile.confinement().ulimits.iter().filter_map(|limit| {
        let same = |other: &&Ulimit| other.resource == limit.resource;
        if given.iter().any(|given| same(&given)) {
            return None;
        }
        let current = host.limits.iter().find(same)?;
        let lowest = current.lowest(*limit);
        (lowest != *current).then_some(lowest)
    });
    given.iter().copied().chain(lowered).collect()
}

/// Whether a limit is above the caller's.
pub(super) fn raises(limit: &Ulimit, host: &Host) -> bool {
    let current = host.limits.iter().find(|current| current.resource == limit.resource);
    current.is_none_or(|current| limit.hard > current.hard)
}

pub(super) fn set_limits(sequence: &mut Sequence, ulimits: &[Ulimit]) {
    for ulimit in ulimits {
        set_limit(sequence, ulimit);
    }
}

/// Raises the caller's soft limit of file sizes, if it is below the hard one: the launch writes files of its own.
pub(super) fn raise_file_size(sequence: &mut Sequence, host: &Host) {
    if let Some(limit) = host.file_size {
        set_limit(sequence, &Ulimit { soft: limit.hard, ..limit });
    }
}

/// Undoes [`raise_file_size`].
pub(super) fn restore_file_size(sequence: &mut Sequence, host: &Host) {
    if let Some(limit) = host.file_size {
        set_limit(sequence, &limit);
    }
}

/// Sets the profile's limits of each user in a new user namespace. A file that the kernel lacks is left out.
pub(super) fn set_user_limits(
    sequence: &mut Sequence,
    confinement: &Confinement,
    kernel_fs: KernelFilesystems,
) {
    const STEP: Step = Step::Ulimits;
    for (path, limit) in confinement.user_limits {
        let file = sequence.cell();
        let (directory, name) = kernel_fs.in_proc(path);
        let open = [directory, sequence.text(name), named!(O_WRONLY | O_CLOEXEC), Arg::Int(0)];
        sequence.call(STEP, number::OPENAT, open).about(path).into(file);
        let digits = limit.to_string();
        let write = [file.into(), sequence.buffer(digits.as_bytes()), digits.len().into()];
        sequence.call(STEP, number::WRITE, write).about(path);
        sequence.call(STEP, number::CLOSE, [file.into()]);
        sequence.unless_gone(2);
    }
}

fn set_limit(sequence: &mut Sequence, ulimit: &Ulimit) {
    let show = |limit: u64| {
        if limit == UNLIMITED { "RLIM64_INFINITY".to_owned() } else { limit.to_string() }
    };
    let bytes = [ulimit.soft.to_ne_bytes(), ulimit.hard.to_ne_bytes()].concat();
    let shown = format!("{{rlim_cur={}, rlim_max={}}}", show(ulimit.soft), show(ulimit.hard));
    let value = sequence.structure_as(&bytes, shown);
    let name = format!("RLIMIT_{}", ulimit.name().to_uppercase());
    let resource = Arg::NamedAs(ulimit.resource.into(), name.into());
    sequence.call(Step::Ulimits, number::PRLIMIT64, [Arg::Int(0), resource, value, Arg::Null]);
}

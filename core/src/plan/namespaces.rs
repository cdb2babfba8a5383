//! The choice of new namespaces, private mounts, and the clocks of a time namespace.

use super::call::{at_cwd, named};
use super::file_calls::write_file;
use super::mount_calls::mount;
use super::number;
use super::sequence::Sequence;
use crate::error::{Reason, Remedy, SpecError, Value};
use crate::spec::namespaces::{Kind, NamespaceOptions};
use crate::spec::{IdMap, Network, Spec, TimeOffset};
use crate::step::Step;

/// The flags that clone(2) can carry.
pub(super) fn clone_flags(new: NamespaceOptions) -> u64 {
    // clone(2) reads the bit of CLONE_NEWTIME as part of the exit signal.
    new.without_time().flags().bits() as u64
}

/// The new namespaces: those of the options, changed by `network`.
pub(super) fn new_namespaces(spec: &Spec) -> Result<NamespaceOptions, SpecError> {
    match spec.network {
        Some(Network::None) if !spec.namespaces.contains(Kind::Net) => Err(SpecError::new(
            "network",
            Value::Word("none"),
            Reason::shared_namespace("the network namespace is shared with the caller"),
            Remedy::with("Leave it out, or {}", Kind::Net.made_new()),
        )),
        Some(Network::Host) => Ok(spec.namespaces.without_net()),
        Some(Network::Join(pid)) => {
            if spec.uid_map != IdMap::Caller || spec.gid_map != IdMap::Caller {
                return Err(SpecError::new(
                    "network",
                    format!("<container {pid}>"),
                    "the container joins the user namespace that owns the network, which has its maps already",
                    "Leave uid_map and gid_map out",
                ));
            }
            Ok(spec.namespaces.without_net().without_user())
        }
        _ => Ok(spec.namespaces),
    }
}

pub(super) fn set_clocks(sequence: &mut Sequence, spec: &Spec) {
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

pub(super) fn make_mounts_private(sequence: &mut Sequence) {
    let flags = named!(MS_REC | MS_PRIVATE);
    mount(sequence, Step::PrivateMounts, None, c"/", None, flags, None)
        .note("mounts made inside stay inside");
}

/// An offset in seconds, without zeros at the end.
fn seconds(offset: TimeOffset) -> String {
    let nanoseconds = i128::from(offset.seconds) * 1_000_000_000 + i128::from(offset.nanoseconds);
    let (sign, size) = (if nanoseconds < 0 { "-" } else { "" }, nanoseconds.unsigned_abs());
    let text = format!("{sign}{}.{:09}", size / 1_000_000_000, size % 1_000_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Refuses options whose namespace is shared.
pub(super) fn check(spec: &Spec) -> Result<(), SpecError> {
    let offsets = [("monotonic", spec.monotonic_offset), ("boottime", spec.boottime_offset)];
    let given = offsets.iter().filter_map(|(clock, offset)| Some((clock, (*offset)?)));
    let given: Vec<String> =
        given.map(|(clock, offset)| format!("{clock:?}: {}", seconds(offset))).collect();
    if !given.is_empty() && !spec.namespaces.contains(Kind::Time) {
        return Err(SpecError::new(
            "time_offsets",
            format!("{{{}}}", given.join(", ")),
            Reason::shared_namespace("clocks can only be set in a new time namespace"),
            Remedy::with("{}", Kind::Time.made_new()),
        ));
    }
    if spec.init && !spec.namespaces.contains(Kind::Pid) {
        return Err(SpecError::new(
            "init",
            true,
            Reason::shared_namespace("only a new PID namespace has a PID 1"),
            Remedy::with("Leave init out, or {}", Kind::Pid.made_new()),
        ));
    }
    Ok(())
}

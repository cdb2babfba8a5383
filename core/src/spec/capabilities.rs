//! Capabilities: their names, sets of them, and the rules of `cap_add` and `cap_drop`.
//!
//! This module makes no system call. The kernel's last capability (`/proc/sys/kernel/cap_last_cap`) is an
//! argument.

use std::fmt;
use std::str::FromStr;

use crate::error::{Reason, ReasonKind, SpecError};
use crate::spec::nearest::nearest_or;

/// The names without the prefix `CAP_`, ordered by number.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// One capability, by its number in `linux/capability.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capability(u8);

macro_rules! known {
    ($($name:ident = $bit:literal),* $(,)?) => {
        impl Capability {
            $(#[doc = concat!("`CAP_", stringify!($name), "`, see capabilities(7).")]
            pub const $name: Self = Self($bit);)*
        }
    };
}

known! {
    CHOWN = 0, DAC_OVERRIDE = 1, DAC_READ_SEARCH = 2, FOWNER = 3, FSETID = 4, KILL = 5, SETGID = 6,
    SETUID = 7, SETPCAP = 8, NET_BIND_SERVICE = 10, NET_ADMIN = 12, NET_RAW = 13, SYS_MODULE = 16,
    SYS_RAWIO = 17, SYS_CHROOT = 18, SYS_PTRACE = 19, SYS_PACCT = 20, SYS_ADMIN = 21, SYS_BOOT = 22,
    SYS_NICE = 23, SYS_RESOURCE = 24, SYS_TIME = 25, SYS_TTY_CONFIG = 26, MKNOD = 27,
    AUDIT_WRITE = 29, SETFCAP = 31, SYSLOG = 34, PERFMON = 38, BPF = 39,
}

impl Capability {
    /// Return the number of the capability: its bit in the sets of capset(2).
    #[must_use]
    pub const fn bit(self) -> u8 {
        self.0
    }

    /// Return the capability with the number `bit`; `None` from 64 on, where sets have no bits.
    #[must_use]
    pub const fn from_bit(bit: u8) -> Option<Self> {
        if bit < 64 { Some(Self(bit)) } else { None }
    }

    /// Return every capability in the table of names.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..NAMES.len() as u8).map(Self)
    }
}

impl fmt::Display for Capability {
    /// Write `CAP_NET_ADMIN`, for example, or `CAP_41` for a capability newer than the table.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.get(usize::from(self.0)) {
            Some(name) => write!(f, "CAP_{name}"),
            None => write!(f, "CAP_{}", self.0),
        }
    }
}

/// The error for a name that no capability has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownCapability;

impl FromStr for Capability {
    type Err = UnknownCapability;

    /// Parse a name in any case, with or without the prefix `CAP_`.
    fn from_str(name: &str) -> Result<Self, UnknownCapability> {
        let name = without_prefix(name);
        NAMES
            .iter()
            .position(|known| known.eq_ignore_ascii_case(name))
            .map(|bit| Self(bit as u8))
            .ok_or(UnknownCapability)
    }
}

fn without_prefix(name: &str) -> &str {
    match name.get(..4) {
        Some(prefix) if prefix.eq_ignore_ascii_case("CAP_") => &name[4..],
        _ => name,
    }
}

/// Return the capability called `name`; errors name `option`.
pub(crate) fn named(option: &'static str, name: &str) -> Result<Capability, SpecError> {
    name.parse().map_err(|UnknownCapability| {
        let remedy = nearest_or(without_prefix(name), NAMES, || {
            "capabilities(7) lists the names; \"ALL\" stands for every one".into()
        });
        let reason = Reason::new(ReasonKind::UnknownName, "no capability has this name");
        SpecError::of_text(option, name, reason, remedy)
    })
}

/// A set of capabilities, as the bits that capset(2) takes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct CapabilitySet(u64);

impl CapabilitySet {
    /// No capability.
    pub const EMPTY: Self = Self(0);

    /// The newest capability in the table of names.
    pub const NEWEST: Capability = Capability(NAMES.len() as u8 - 1);

    /// Docker's default set.
    pub const DOCKER: Self = Self::of(&[
        Capability::CHOWN,
        Capability::DAC_OVERRIDE,
        Capability::FSETID,
        Capability::FOWNER,
        Capability::MKNOD,
        Capability::NET_RAW,
        Capability::SETGID,
        Capability::SETUID,
        Capability::SETFCAP,
        Capability::SETPCAP,
        Capability::NET_BIND_SERVICE,
        Capability::SYS_CHROOT,
        Capability::KILL,
        Capability::AUDIT_WRITE,
    ]);

    /// Return the set of these capabilities.
    #[must_use]
    pub const fn of(capabilities: &[Capability]) -> Self {
        let mut bits = 0;
        let mut i = 0;
        while i < capabilities.len() {
            bits |= 1 << capabilities[i].0;
            i += 1;
        }
        Self(bits)
    }

    /// Return every capability of a kernel whose `cap_last_cap` is `last`.
    #[must_use]
    pub const fn up_to(last: u8) -> Self {
        if last >= 63 { Self(u64::MAX) } else { Self((1 << (last + 1)) - 1) }
    }

    /// Return the set with these bits.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Return the bits: capability *n* is bit *n*.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Return whether `capability` is in the set.
    #[must_use]
    pub const fn contains(self, capability: Capability) -> bool {
        self.0 & (1 << capability.0) != 0
    }

    /// Return the capabilities that are in both sets.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Return the capabilities that are in this set and not in the other.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Return whether the set is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Return the capabilities, ordered by number.
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        (0..64).map(Capability).filter(move |&capability| self.contains(capability))
    }
}

impl FromIterator<Capability> for CapabilitySet {
    fn from_iter<I: IntoIterator<Item = Capability>>(capabilities: I) -> Self {
        Self(capabilities.into_iter().fold(0, |bits, capability| bits | 1 << capability.0))
    }
}

impl fmt::Debug for CapabilitySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(|capability| capability.to_string())).finish()
    }
}

/// Apply `cap_add` and `cap_drop` to `base` by Docker's rules.
///
/// `last` is the kernel's `cap_last_cap`.
///
/// - If `cap_add` has `ALL`, the result is every capability except those that `cap_drop` names.
/// - Otherwise, if `cap_drop` has `ALL`, the result is the capabilities that `cap_add` names.
/// - Otherwise, the result is `base` without the dropped and then with the added, so a capability in both
///   lists is kept.
///
/// # Errors
///
/// An unknown name, or a capability in `cap_add` that this kernel does not have.
pub fn resolve<A: AsRef<str>, D: AsRef<str>>(
    base: CapabilitySet,
    cap_add: &[A],
    cap_drop: &[D],
    last: u8,
) -> Result<CapabilitySet, SpecError> {
    let every = CapabilitySet::up_to(last);
    let (add_all, added) = parse_list("cap_add", cap_add)?;
    let (drop_all, dropped) = parse_list("cap_drop", cap_drop)?;
    if let Some(newer) = added.iter().find(|&capability| !every.contains(capability)) {
        return Err(SpecError::of_text(
            "cap_add",
            newer.to_string(),
            format!("this kernel does not have it; its last capability is {}", Capability(last)),
            "Leave it out, or use a newer kernel",
        ));
    }
    let base = base.intersection(every);
    Ok(CapabilitySet(if add_all {
        every.0 & !dropped.0
    } else if drop_all {
        added.0
    } else {
        base.0 & !dropped.0 | added.0
    }))
}

/// Return whether `ALL` is in the list, and the set of the other capabilities in it.
fn parse_list<S: AsRef<str>>(
    option: &'static str,
    list: &[S],
) -> Result<(bool, CapabilitySet), SpecError> {
    let mut all = false;
    let mut bits = 0;
    for name in list {
        let name = name.as_ref();
        if name.eq_ignore_ascii_case("ALL") {
            all = true;
        } else {
            bits |= 1 << named(option, name)?.0;
        }
    }
    Ok((all, CapabilitySet(bits)))
}

#[cfg(test)]
mod tests {
    use super::{Capability, CapabilitySet, NAMES, resolve};

    const NOTHING: [&str; 0] = [];
    const LAST: u8 = 40;

    #[test]
    fn a_name_has_any_case_and_needs_no_prefix() {
        for name in ["NET_ADMIN", "CAP_NET_ADMIN", "net_admin", "cap_Net_Admin"] {
            assert_eq!(name.parse(), Ok(Capability::NET_ADMIN), "{name}");
        }
        assert_eq!(Capability::NET_ADMIN.to_string(), "CAP_NET_ADMIN");
        assert!("CAP_".parse::<Capability>().is_err());
        assert!("CAP_ALL".parse::<Capability>().is_err());
        assert!("é_é".parse::<Capability>().is_err());
    }

    #[test]
    fn each_constant_has_the_number_of_its_name_in_the_table() {
        for (capability, name) in [
            (Capability::CHOWN, "CHOWN"),
            (Capability::SYS_ADMIN, "SYS_ADMIN"),
            (Capability::SETFCAP, "SETFCAP"),
            (Capability::SYSLOG, "SYSLOG"),
            (Capability::PERFMON, "PERFMON"),
            (Capability::BPF, "BPF"),
            (Capability::AUDIT_WRITE, "AUDIT_WRITE"),
            (Capability::SYS_TTY_CONFIG, "SYS_TTY_CONFIG"),
        ] {
            assert_eq!(NAMES[usize::from(capability.bit())], name);
        }
    }

    #[test]
    fn the_names_are_those_of_the_kernels_header() {
        // The kernel's authors maintain this header.
        let Ok(header) = std::fs::read_to_string("/usr/include/linux/capability.h") else {
            return assert_eq!(NAMES[40], "CHECKPOINT_RESTORE");
        };
        for (bit, name) in NAMES.iter().enumerate() {
            let defined = header.lines().any(|line| {
                let mut words = line.split_whitespace();
                words.next() == Some("#define")
                    && words.next() == Some(&format!("CAP_{name}"))
                    && words.next() == Some(&bit.to_string())
            });
            assert!(defined, "CAP_{name} is not {bit} in linux/capability.h");
        }
    }

    #[test]
    fn dockers_default_set_has_fourteen_capabilities() {
        let bits = [0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31];
        assert_eq!(CapabilitySet::DOCKER.bits(), bits.iter().fold(0, |set, bit| set | 1 << bit));
        assert_eq!(CapabilitySet::DOCKER.iter().count(), 14);
    }

    #[test]
    fn adding_all_omits_the_capabilities_that_are_dropped_by_name() {
        let set = resolve(CapabilitySet::DOCKER, &["ALL"], &["cap_sys_admin", "all"], LAST);
        let expected: CapabilitySet =
            Capability::all().filter(|&capability| capability != Capability::SYS_ADMIN).collect();
        assert_eq!(set, Ok(expected));
    }

    #[test]
    fn dropping_all_leaves_the_capabilities_that_are_added_by_name() {
        let set = resolve(CapabilitySet::DOCKER, &["NET_ADMIN"], &["All", "NET_ADMIN"], LAST);
        assert_eq!(set, Ok(CapabilitySet::of(&[Capability::NET_ADMIN])));
        assert_eq!(
            resolve(CapabilitySet::DOCKER, &NOTHING, &["ALL"], LAST),
            Ok(CapabilitySet::EMPTY)
        );
    }

    #[test]
    fn without_all_a_capability_is_dropped_first_and_added_after() {
        let set = resolve(CapabilitySet::DOCKER, &["SYS_TIME", "KILL"], &["KILL", "CHOWN"], LAST)
            .unwrap();
        assert!(set.contains(Capability::KILL), "added after it was dropped");
        assert!(set.contains(Capability::SYS_TIME));
        assert!(!set.contains(Capability::CHOWN));
        assert_eq!(
            resolve(CapabilitySet::DOCKER, &NOTHING, &NOTHING, LAST),
            Ok(CapabilitySet::DOCKER)
        );
    }

    #[test]
    fn an_older_kernel_has_fewer_and_a_newer_one_more() {
        let all = resolve(CapabilitySet::EMPTY, &["ALL"], &NOTHING, 37).unwrap();
        assert_eq!(all.bits(), (1 << 38) - 1);
        let error = resolve(CapabilitySet::EMPTY, &["BPF"], &NOTHING, 37).unwrap_err();
        assert_eq!(
            (error.option, error.value, error.reason.text()),
            (
                "cap_add",
                "\"CAP_BPF\"".into(),
                "this kernel does not have it; its last capability is CAP_AUDIT_READ"
            )
        );
        // A capability that this kernel does not have can always be dropped.
        assert!(resolve(CapabilitySet::DOCKER, &NOTHING, &["BPF"], 37).is_ok());
        assert_eq!(CapabilitySet::up_to(41).iter().last().unwrap().to_string(), "CAP_41");
        assert_eq!(CapabilitySet::up_to(63).bits(), u64::MAX);
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_nearest() {
        let error = resolve(CapabilitySet::EMPTY, &NOTHING, &["CAP_NET_ADMN"], LAST).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cap_drop=\"CAP_NET_ADMN\": no capability has this name. Did you mean \"NET_ADMIN\"?"
        );
        assert!(resolve(CapabilitySet::EMPTY, &[""], &NOTHING, LAST).is_err());
    }
}

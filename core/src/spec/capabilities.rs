//! Capabilities by name, as sets, and as `cap_add` and `cap_drop` change them.
//!
//! Nothing here asks the kernel: the last capability that it knows is an argument
//! (`/proc/sys/kernel/cap_last_cap`).

use std::fmt;
use std::str::FromStr;

use crate::error::{Reason, ReasonKind, SpecError};
use crate::spec::nearest::nearest_or;

/// The names in the order of their numbers, without the prefix `CAP_`.
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
    /// The number of the capability: its bit in the sets of capset(2).
    #[must_use]
    pub const fn bit(self) -> u8 {
        self.0
    }

    /// The capability with the number `bit`; `None` where no set has such a bit.
    #[must_use]
    pub const fn from_bit(bit: u8) -> Option<Self> {
        if bit < 64 { Some(Self(bit)) } else { None }
    }

    /// Every capability that has a name here.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..NAMES.len() as u8).map(Self)
    }
}

impl fmt::Display for Capability {
    /// `CAP_NET_ADMIN`; `CAP_41` for one that is newer than this table.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.get(usize::from(self.0)) {
            Some(name) => write!(f, "CAP_{name}"),
            None => write!(f, "CAP_{}", self.0),
        }
    }
}

/// A name that no capability has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownCapability;

impl FromStr for Capability {
    type Err = UnknownCapability;

    /// The prefix `CAP_` may be left out, and any case does.
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

/// The capability called `name`, or what is wrong with it as a part of `option`.
pub(crate) fn named(option: &'static str, name: &str) -> Result<Capability, SpecError> {
    name.parse().map_err(|UnknownCapability| {
        let remedy = nearest_or(without_prefix(name), NAMES, || {
            "capabilities(7) lists them, and \"ALL\" is all of them".into()
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

    /// The newest capability that has a name here.
    pub const NEWEST: Capability = Capability(NAMES.len() as u8 - 1);

    /// What Docker gives a container that asks for nothing.
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

    /// The set of these.
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

    /// Every capability of a kernel whose `cap_last_cap` is `last`.
    #[must_use]
    pub const fn up_to(last: u8) -> Self {
        if last >= 63 { Self(u64::MAX) } else { Self((1 << (last + 1)) - 1) }
    }

    /// The set with these bits.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The bits: capability *n* is bit *n*.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether `capability` is in the set.
    #[must_use]
    pub const fn contains(self, capability: Capability) -> bool {
        self.0 & (1 << capability.0) != 0
    }

    /// What is in both sets.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What is in this set and not in the other.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The capabilities in the order of their numbers.
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

/// The capabilities that `cap_add` and `cap_drop` leave of `base`, by Docker's rules, on a kernel
/// whose `cap_last_cap` is `last`.
///
/// `ALL` added gives every capability but those dropped by name; else `ALL` dropped leaves those
/// added by name; else the dropped leave `base` and then the added come to it, so that one in both
/// lists is kept.
///
/// # Errors
///
/// A name that no capability has, or one to add that this kernel does not know.
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
            format!("this kernel is older: its last capability is {}", Capability(last)),
            "Leave it out, or run on a newer kernel",
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

/// Whether `ALL` is in the list, and the set of the capabilities named in it.
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
    fn a_name_needs_no_prefix_and_any_case_does() {
        for name in ["NET_ADMIN", "CAP_NET_ADMIN", "net_admin", "cap_Net_Admin"] {
            assert_eq!(name.parse(), Ok(Capability::NET_ADMIN), "{name}");
        }
        assert_eq!(Capability::NET_ADMIN.to_string(), "CAP_NET_ADMIN");
        assert!("CAP_".parse::<Capability>().is_err());
        assert!("CAP_ALL".parse::<Capability>().is_err());
        assert!("é_é".parse::<Capability>().is_err());
    }

    #[test]
    fn the_constants_have_the_names_that_the_table_gives_their_numbers() {
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
    fn the_names_are_those_that_this_kernel_prints() {
        // The C library's header is written by the kernel's authors, number by number.
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
    fn docker_gives_its_fourteen() {
        let bits = [0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31];
        assert_eq!(CapabilitySet::DOCKER.bits(), bits.iter().fold(0, |set, bit| set | 1 << bit));
        assert_eq!(CapabilitySet::DOCKER.iter().count(), 14);
    }

    #[test]
    fn adding_all_leaves_out_what_is_dropped_by_name() {
        let set = resolve(CapabilitySet::DOCKER, &["ALL"], &["cap_sys_admin", "all"], LAST);
        let expected: CapabilitySet =
            Capability::all().filter(|&capability| capability != Capability::SYS_ADMIN).collect();
        assert_eq!(set, Ok(expected));
    }

    #[test]
    fn dropping_all_leaves_what_is_added_by_name() {
        let set = resolve(CapabilitySet::DOCKER, &["NET_ADMIN"], &["All", "NET_ADMIN"], LAST);
        assert_eq!(set, Ok(CapabilitySet::of(&[Capability::NET_ADMIN])));
        assert_eq!(
            resolve(CapabilitySet::DOCKER, &NOTHING, &["ALL"], LAST),
            Ok(CapabilitySet::EMPTY)
        );
    }

    #[test]
    fn without_all_the_dropped_go_first_and_the_added_come_after() {
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
                "this kernel is older: its last capability is CAP_AUDIT_READ"
            )
        );
        // What this kernel does not have can always be dropped.
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

//! The set of new namespaces.

use std::fmt;

use nix::sched::CloneFlags;

use super::Kind;

/// The set of [`Kind`]s of namespaces that are new.
///
/// The default is [`all`](Self::all): every kind except time. Few programs expect clocks to jump, so a new
/// time namespace must be named.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct NamespaceOptions(u8);

impl NamespaceOptions {
    /// Return the default set: pid, net, mount, uts, ipc, user and cgroup.
    #[must_use]
    pub const fn all() -> Self {
        Self(u8::MAX).without(Kind::Time)
    }

    /// Return the empty set: the container shares every namespace with the caller.
    #[must_use]
    pub const fn none() -> Self {
        Self(0)
    }

    /// Return a builder that starts from the default, so an unmentioned kind is new.
    pub const fn builder() -> NamespaceOptionsBuilder {
        NamespaceOptionsBuilder(Self::all())
    }

    /// Return the set with these flags.
    ///
    /// # Errors
    ///
    /// The bits that are not a namespace's flag.
    pub fn from_flags(flags: CloneFlags) -> Result<Self, CloneFlags> {
        let options = Kind::ALL
            .into_iter()
            .filter(|kind| flags.contains(kind.flag()))
            .fold(Self::none(), Self::with);
        let unknown = flags.bits() & !options.flags().bits();
        if unknown == 0 { Ok(options) } else { Err(CloneFlags::from_bits_retain(unknown)) }
    }

    /// Return the flags for clone(2) and unshare(2). clone(2) does not accept `CLONE_NEWTIME`.
    #[must_use]
    pub fn flags(self) -> CloneFlags {
        let bits = self.iter().fold(0, |bits, kind| bits | kind.flag().bits());
        CloneFlags::from_bits_retain(bits)
    }

    /// Return this set with `kind`.
    #[must_use]
    pub const fn with(self, kind: Kind) -> Self {
        Self(self.0 | 1 << kind as u8)
    }

    /// Return this set without `kind`.
    #[must_use]
    pub const fn without(self, kind: Kind) -> Self {
        Self(self.0 & !(1 << kind as u8))
    }

    /// Return whether `kind` is new.
    #[must_use]
    pub const fn contains(self, kind: Kind) -> bool {
        self.0 & 1 << kind as u8 != 0
    }

    /// Return whether no namespace is new.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Return the new kinds, in the order of [`Kind::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Kind> {
        Kind::ALL.into_iter().filter(move |kind| self.contains(*kind))
    }
}

impl Default for NamespaceOptions {
    fn default() -> Self {
        Self::all()
    }
}

impl FromIterator<Kind> for NamespaceOptions {
    fn from_iter<I: IntoIterator<Item = Kind>>(kinds: I) -> Self {
        kinds.into_iter().fold(Self::none(), Self::with)
    }
}

impl fmt::Debug for NamespaceOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NamespaceOptions({self})")
    }
}

/// Writes the names with commas between them: `pid,mount,uts`.
impl fmt::Display for NamespaceOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.iter().map(Kind::name).collect();
        f.write_str(&names.join(","))
    }
}

/// Builds [`NamespaceOptions`] from one boolean for each kind, starting from
/// [`NamespaceOptions::all`].
#[derive(Clone, Copy, Debug)]
#[must_use = "a builder does nothing until build() is called"]
pub struct NamespaceOptionsBuilder(NamespaceOptions);

impl NamespaceOptionsBuilder {
    pub(super) const fn set(self, kind: Kind, new: bool) -> Self {
        Self(if new { self.0.with(kind) } else { self.0.without(kind) })
    }

    /// Return the set.
    #[must_use]
    pub const fn build(self) -> NamespaceOptions {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_seven_kinds_and_time_must_be_named() {
        assert_eq!(NamespaceOptions::all().to_string(), "pid,net,mount,uts,ipc,user,cgroup");
        assert_eq!(NamespaceOptions::all().with_time().iter().count(), 8);
        assert_eq!(NamespaceOptions::default(), NamespaceOptions::all());
    }

    #[test]
    fn none_is_empty() {
        assert!(NamespaceOptions::none().is_empty());
        assert!(NamespaceOptions::none().flags().is_empty());
        assert_eq!(NamespaceOptions::none().to_string(), "");
    }

    #[test]
    fn with_and_without_undo_each_other_for_every_kind() {
        for kind in Kind::ALL {
            let alone = NamespaceOptions::none().with(kind);
            assert_eq!(alone.iter().collect::<Vec<_>>(), [kind]);
            assert!(alone.without(kind).is_empty());
            assert_eq!(alone.flags(), kind.flag());
        }
    }

    #[test]
    fn the_builder_keeps_the_kinds_that_are_not_mentioned() {
        let built = NamespaceOptions::builder().net(false).time(true).build();
        assert_eq!(built, NamespaceOptions::all().without_net().with_time());
    }

    #[test]
    fn every_set_is_restored_from_its_flags() {
        for bits in 0..=u8::MAX {
            let options = NamespaceOptions(bits);
            assert_eq!(NamespaceOptions::from_flags(options.flags()), Ok(options));
            assert_eq!(options.iter().collect::<NamespaceOptions>(), options);
        }
    }

    #[test]
    fn an_error_has_the_flags_that_are_not_a_namespaces() {
        let flags = CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_FILES;
        assert_eq!(NamespaceOptions::from_flags(flags), Err(CloneFlags::CLONE_FILES));
    }
}

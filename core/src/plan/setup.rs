//! The inputs of the concerns that set up new namespaces.

use crate::host::Host;
use crate::host::files::Files;
use crate::spec::Spec;
use crate::spec::namespaces::{Kind, NamespaceOptions};
use crate::spec::profile::Confinement;

/// The specification, the host and the namespaces, for the concerns that set up new namespaces.
pub(super) struct NamespaceSetup<'a> {
    pub(super) spec: &'a Spec,
    /// The kinds of the new namespaces.
    pub(super) new: NamespaceOptions,
    /// Whether the network is not the caller's: it is new or entered.
    pub(super) other_net: bool,
    /// The range of group ids inside that may use ICMP sockets.
    pub(super) ping_group_range: (u32, u32),
    pub(super) host: &'a Host,
    /// Facts about files, if the specification changes files.
    pub(super) files: Option<&'a Files>,
}

impl NamespaceSetup<'_> {
    /// The profile's confinement, if it masks files.
    pub(super) fn masked(&self) -> Option<&'static Confinement> {
        let confinement = self.spec.confine.profile.confinement();
        (self.new.contains(Kind::Mount) && confinement.covers_files()).then_some(confinement)
    }
}

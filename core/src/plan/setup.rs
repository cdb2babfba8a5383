//! What the setup of new namespaces depends on.

use crate::host::Host;
use crate::host::files::Files;
use crate::spec::Spec;
use crate::spec::namespaces::{Kind, NamespaceOptions};
use crate::spec::profile::Confinement;

/// What the concerns of a plan look at while they set up new namespaces.
pub(super) struct NamespaceSetup<'a> {
    pub(super) spec: &'a Spec,
    /// Which namespaces are new.
    pub(super) new: NamespaceOptions,
    /// Whether the network is not the caller's, be it new or entered.
    pub(super) other_net: bool,
    /// The range of group ids inside that may use ICMP sockets.
    pub(super) ping_group_range: (u32, u32),
    pub(super) host: &'a Host,
    /// What is known of the files, where there is more to them than the host's own.
    pub(super) files: Option<&'a Files>,
}

impl NamespaceSetup<'_> {
    /// The profile, where it covers files.
    pub(super) fn masked(&self) -> Option<&'static Confinement> {
        let confinement = self.spec.confine.profile.confinement();
        (self.new.contains(Kind::Mount) && confinement.covers_files()).then_some(confinement)
    }
}

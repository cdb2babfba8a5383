//! The user that a user namespace belongs to.
//!
//! What the processes in a user namespace use of a resource that the kernel limits for each user, such as inotify(7)
//! instances, message queues and locked memory, counts for the creator of the namespace, too: for the effective user of
//! the thread that made it. A container with ids of its own shall not use up what root may use. So the calling thread
//! is another user while it makes such a namespace.

use std::io;

use rustix::process::{Signal, parent_process_death_signal, set_parent_process_death_signal};
use rustix::thread::{
    CapabilitySet, CapabilitySets, Uid, capabilities, set_capabilities, set_thread_res_uid,
};

const NEEDED: CapabilitySet =
    CapabilitySet::SETUID.union(CapabilitySet::SYS_PTRACE).union(CapabilitySet::DAC_OVERRIDE);

/// The creator of a user namespace, by an id outside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Creator(pub(crate) u32);

/// The calling thread has the creator's effective user id until this is dropped, and no less capabilities. No signal
/// handler may run meanwhile.
pub(super) struct Disguise {
    before: Uids,
    capabilities: CapabilitySets,
    death_signal: Option<Signal>,
}

struct Uids {
    real: Uid,
    effective: Uid,
    saved: Uid,
}

impl Disguise {
    /// `None` if the thread has not the capabilities to write the id maps of another user's process, and to open its
    /// namespaces.
    pub(super) fn of(creator: Creator) -> io::Result<Option<Self>> {
        let capabilities = capabilities(None)?;
        if !capabilities.effective.contains(NEEDED) {
            return Ok(None);
        }
        let found = nix::unistd::getresuid()?;
        let uid = |uid: nix::unistd::Uid| Uid::from_raw(uid.as_raw());
        let before = Uids {
            real: uid(found.real),
            effective: uid(found.effective),
            saved: uid(found.saved),
        };
        let death_signal = parent_process_death_signal()?;
        // With its own id as saved id the thread can go back.
        set_thread_res_uid(before.real, Uid::from_raw(creator.0), before.effective)?;
        let disguise = Self { before, capabilities, death_signal };
        // Some systems let only privileged threads make user namespaces.
        set_capabilities(None, capabilities)?;
        Ok(Some(disguise))
    }
}

impl Drop for Disguise {
    fn drop(&mut self) {
        let Uids { real, effective, saved } = self.before;
        let restored = set_thread_res_uid(real, effective, saved)
            .and_then(|()| set_capabilities(None, self.capabilities))
            .and_then(|()| set_parent_process_death_signal(self.death_signal));
        debug_assert!(restored.is_ok(), "a thread may always go back to its saved ids");
    }
}

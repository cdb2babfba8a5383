//! The process whose namespaces a launch enters.
//!
//! A process that shares the caller's memory never enters: a process inside could trace it, and read the caller's
//! memory through it. The sealed helper enters instead, as joiner (see `StageBuilder::enter` in `plan`).

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use crate::error::SpawnError;
use crate::host::Host;
use crate::host::id_pool::first_of_range;
use crate::host::ids::Ids;
use crate::host::ids::{inside_of, is_mapped, parse_rows};
use crate::host::namespaces::{ReadError, of_process, of_thread};
use crate::spec::namespaces::{Kind, NamespaceOptions};
use crate::spec::{CommandSpec, IdRow, Network, Spec};
use crate::step::Step;
use crate::sys::fd;

/// A process, and which of its namespaces differ from the caller's.
#[derive(Debug)]
pub struct Target {
    pid: i32,
    pidfd: OwnedFd,
    kinds: NamespaceOptions,
    uid_rows: Vec<IdRow>,
    gid_rows: Vec<IdRow>,
}

impl Target {
    /// Opens the process that a launch enters: `enter`, with all of its namespaces, or the process whose network `spec`
    /// joins, with the user namespace that owns that network.
    ///
    /// # Errors
    ///
    /// As for [`Target::open`].
    pub fn of(spec: &Spec, enter: Option<i32>) -> Result<Option<Self>, SpawnError> {
        match (enter, spec.network) {
            (Some(pid), _) => Self::open(pid).map(Some),
            (None, Some(Network::Join(pid))) => Ok(Some(Self::open(pid)?.network_only())),
            _ => Ok(None),
        }
    }

    /// Opens the process `pid`. A launch does not enter the namespaces that it shares with the caller, since the
    /// kernel may refuse that (for the initial cgroup namespace it does to a plain caller).
    ///
    /// # Errors
    ///
    /// [`SpawnError`] with [`Step::Target`] if the process has ended, or belongs to another user.
    pub fn open(pid: i32) -> Result<Self, SpawnError> {
        let failed = |error: &std::io::Error| SpawnError::from_io(Step::Target, error);
        // Open the pidfd first: `is_alive` below then detects that the pid has been reused.
        let pidfd = fd::pidfd_open(pid).map_err(|error| failed(&error))?;
        let read = |error: ReadError| SpawnError::new(Step::Target, error.errno());
        let theirs = of_process(pid.unsigned_abs()).map_err(read)?;
        let ours = of_thread().map_err(read)?;
        let shared: NamespaceOptions = theirs.shared_with(&ours).collect();
        let kinds =
            theirs.iter().map(|(kind, _)| kind).filter(|&kind| !shared.contains(kind)).collect();
        let rows = |file: &str| {
            fs::read_to_string(format!("/proc/{pid}/{file}"))
                .map(|text| parse_rows(&text))
                .map_err(|error| failed(&error))
        };
        let (uid_rows, gid_rows) = (rows("uid_map")?, rows("gid_map")?);
        if !fd::is_alive(pidfd.as_fd()) {
            return Err(SpawnError::new(Step::Target, libc::ESRCH));
        }
        Ok(Self { pid, pidfd, kinds, uid_rows, gid_rows })
    }

    /// Keeps only the network, and the user namespace that owns it.
    #[must_use]
    pub fn network_only(mut self) -> Self {
        let wanted: NamespaceOptions = [Kind::User, Kind::Net].into_iter().collect();
        self.kinds = self.kinds.iter().filter(|&kind| wanted.contains(kind)).collect();
        self
    }

    /// The kinds of namespace that the launch enters.
    #[must_use]
    pub const fn kinds(&self) -> NamespaceOptions {
        self.kinds
    }

    /// The rows of the group map, if the launch enters the user namespace.
    pub(crate) fn group_rows(&self) -> Option<&[IdRow]> {
        self.kinds.contains(Kind::User).then_some(&self.gid_rows)
    }

    /// The first user id and group id outside of the range that the user namespace has to itself, if the launch enters
    /// one that has.
    pub(crate) fn first_ids(&self) -> Option<(u32, u32)> {
        let firsts = first_of_range(&self.uid_rows).zip(first_of_range(&self.gid_rows));
        firsts.filter(|_| self.kinds.contains(Kind::User))
    }

    /// Opens its user namespace.
    pub(crate) fn user_namespace(&self) -> Result<File, SpawnError> {
        let path = format!("/proc/{}/ns/user", self.pid);
        let opened = File::open(&path);
        // The pid may have been reused before that.
        if !fd::is_alive(self.pidfd.as_fd()) {
            return Err(SpawnError::new(Step::Target, libc::ESRCH));
        }
        opened.map_err(|error| SpawnError::from_io(Step::Target, &error).about(path))
    }

    pub(crate) fn raw_fd(&self) -> i32 {
        self.pidfd.as_raw_fd()
    }

    /// The ids of the joiner inside: root if root is mapped, else the id that the caller is mapped to, else the
    /// command's user. `None` if the launch does not enter the user namespace.
    pub(crate) fn ids(&self, host: &Host, command: Option<&CommandSpec>) -> Option<Ids> {
        if !self.kinds.contains(Kind::User) {
            return None;
        }
        let first = |rows: &[IdRow], own: u32, wanted: Option<u32>| {
            if is_mapped(rows, 0) { 0 } else { inside_of(rows, own).or(wanted).unwrap_or(0) }
        };
        let uid = first(&self.uid_rows, host.uid, command.and_then(|command| command.user));
        let gid = first(&self.gid_rows, host.gid, command.and_then(|command| command.group));
        let change = inside_of(&self.uid_rows, host.uid) != Some(uid)
            || inside_of(&self.gid_rows, host.gid) != Some(gid);
        Some(Ids { uid, gid, change })
    }
}

impl AsFd for Target {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

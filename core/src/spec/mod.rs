//! The specification of a container and a command: pure data, in the terms of OCI and docker.

use std::ffi::CString;
use std::os::fd::RawFd;
use std::path::PathBuf;

pub mod capabilities;
pub mod confine;
mod environment;
pub mod landlock;
mod mounts;
pub mod namespaces;
pub(crate) mod nearest;
pub(crate) mod path_variables;
pub mod profile;
pub(crate) mod scripts;
pub mod seccomp;
pub mod ulimits;

use confine::Confine;
pub use environment::Environment;
pub(crate) use mounts::MountOptions;
pub use mounts::{Mount, MountKind, Overlay};
use namespaces::NamespaceOptions;

/// One row of an id map, as `user_namespaces(7)` describes `/proc/PID/uid_map`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRow {
    /// The first id inside the user namespace.
    pub inside: u32,
    /// The first id outside.
    pub outside: u32,
    /// The number of consecutive ids.
    pub count: u32,
}

/// The mapping between ids inside the user namespace and ids outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum IdMap {
    /// An unprivileged caller becomes root inside; a root caller keeps every id that it has.
    #[default]
    Caller,
    /// The caller becomes root inside, and its subordinate ids (subuid(5)) map to the ids from 1 on.
    Auto,
    /// Exactly these rows.
    Rows(Vec<IdRow>),
}

/// The network stack of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Its own, with only a loopback interface.
    None,
    /// The caller's.
    Host,
    /// The network and user namespaces of the process with this pid.
    Join(i32),
}

/// Offsets of the clocks in a new time namespace, `time_namespaces(7)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeOffset {
    /// Whole seconds, rounded down.
    pub seconds: i64,
    /// The rest, 0 to 999 999 999.
    pub nanoseconds: u32,
}

/// A path outside that a profile's view of the host's files shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownPath {
    /// The path as spelt. The links on the way are shown as links.
    pub path: PathBuf,
    /// The path without links that it must lead to; `None`: the one that it leads to when the launch begins.
    pub target: Option<PathBuf>,
}

/// The isolation options of a container.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The new namespaces.
    pub namespaces: NamespaceOptions,
    /// The hostname, set in the new UTS namespace; 1 to 64 bytes.
    pub hostname: Option<Vec<u8>>,
    /// The NIS domain name, set in the new UTS namespace; 1 to 64 bytes.
    pub domainname: Option<Vec<u8>>,
    /// The mapping of user ids.
    pub uid_map: IdMap,
    /// The mapping of group ids.
    pub gid_map: IdMap,
    /// The network stack; `None`: its own if the network namespace is new, else the caller's.
    pub network: Option<Network>,
    /// The directory that becomes `/`; `None`: the host's files.
    pub rootfs: Option<CString>,
    /// The mounts inside, in this order.
    pub mounts: Vec<Mount>,
    /// Paths outside that a profile's view of the host's files shows too, read-only, at the same paths. Another view
    /// has them already, or is not the host's.
    pub shown: Vec<ShownPath>,
    /// Users and groups inside that get a name, beside those of the command, if the files of accounts are made up.
    pub named_users: Vec<u32>,
    /// See [`Self::named_users`].
    pub named_groups: Vec<u32>,
    /// Whether the root is read-only, with everything below it except [`Self::mounts`].
    pub read_only: bool,
    /// The place of the writes to the root.
    pub overlay: Overlay,
    /// The confinement beyond namespaces.
    pub confine: Confine,
    /// Whether PID 1 is the init instead of the command.
    pub init: bool,
    /// Whether the container ends with the calling process.
    pub die_with_parent: bool,
    /// The offset of `CLOCK_MONOTONIC` in the new time namespace.
    pub monotonic_offset: Option<TimeOffset>,
    /// The offset of `CLOCK_BOOTTIME` in the new time namespace.
    pub boottime_offset: Option<TimeOffset>,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            namespaces: NamespaceOptions::all(),
            hostname: None,
            domainname: None,
            uid_map: IdMap::Caller,
            gid_map: IdMap::Caller,
            network: None,
            rootfs: None,
            mounts: Vec::new(),
            shown: Vec::new(),
            named_users: Vec::new(),
            named_groups: Vec::new(),
            read_only: false,
            overlay: Overlay::None,
            confine: Confine::default(),
            init: false,
            die_with_parent: true,
            monotonic_offset: None,
            boottime_offset: None,
        }
    }
}

impl Spec {
    /// Whether the container has the caller's network.
    pub(crate) fn shares_network(&self) -> bool {
        match self.network {
            Some(network) => network == Network::Host,
            None => !self.namespaces.contains(namespaces::Kind::Net),
        }
    }

    /// Whether the container sees only those files of the host that its profile lists.
    pub(crate) fn shows_listed_files_only(&self) -> bool {
        self.rootfs.is_none()
            && self.namespaces.contains(namespaces::Kind::Mount)
            && self.confine.profile.confinement().view.is_some()
    }
}

/// The directory that the command starts in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum WorkingDirectory {
    /// The caller's, or `/` if that does not exist inside.
    #[default]
    Caller,
    /// This directory, which must exist inside.
    Path(CString),
}

/// A command: the arguments of execve(2) and the attributes of its process.
#[derive(Clone, Debug)]
pub struct CommandSpec {
    /// The files to try in order; the first that can be executed is.
    pub candidates: Vec<CString>,
    /// The arguments, beginning with the program's name.
    pub argv: Vec<CString>,
    /// The environment.
    pub envp: Environment,
    /// The directory that it starts in.
    pub working_directory: WorkingDirectory,
    /// The descriptors that become 0, 1 and 2; `None` keeps the caller's.
    pub stdio: [Option<RawFd>; 3],
    /// Descriptors that the command inherits under the same number.
    pub pass_fds: Vec<RawFd>,
    /// Whether every other descriptor from 3 on is closed.
    pub close_fds: bool,
    /// Whether to reset SIGPIPE and SIGXFSZ, which interpreters ignore, to their default action.
    pub restore_signals: bool,
    /// The file mode creation mask; `None` keeps the caller's.
    pub umask: Option<u32>,
    /// Whether the command starts a new session.
    pub new_session: bool,
    /// The process group to join by setpgid(2); 0 for a new one.
    pub process_group: Option<i32>,
    /// Whether descriptor 0 becomes the controlling terminal of the new session.
    pub terminal: bool,
    /// The user id inside; `None`: root inside if the user namespace is new or joined.
    pub user: Option<u32>,
    /// The group id inside.
    pub group: Option<u32>,
    /// The supplementary group ids inside.
    pub groups: Option<Vec<u32>>,
}

impl CommandSpec {
    /// Return a command that starts in the caller's directory with the caller's standard streams.
    ///
    /// Descriptors from 3 on are closed, and the environment is empty.
    #[must_use]
    pub fn new(file: CString, argv: Vec<CString>) -> Self {
        Self {
            candidates: vec![file],
            argv,
            envp: Environment::default(),
            working_directory: WorkingDirectory::Caller,
            stdio: [None; 3],
            pass_fds: Vec::new(),
            close_fds: true,
            restore_signals: true,
            umask: None,
            new_session: true,
            process_group: None,
            terminal: false,
            user: None,
            group: None,
            groups: None,
        }
    }
}

/// The program that runs in the container.
#[derive(Clone, Copy, Debug)]
pub enum Payload<'a> {
    /// A command.
    Command(&'a CommandSpec),
    /// Only the init, which holds the namespaces for processes that join them later.
    Hold,
    /// A copy of the calling process, as a child of the init: see [`launch::fork`](crate::launch::fork).
    /// The command gives the attributes of the process; its files, arguments and environment are ignored.
    Fork(&'a CommandSpec),
}

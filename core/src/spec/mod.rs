//! What is asked for: pure data, in the words of OCI and docker.

use std::ffi::CString;
use std::os::fd::RawFd;

pub mod capabilities;
pub mod confine;
mod environment;
pub mod landlock;
mod mounts;
pub mod namespaces;
pub(crate) mod nearest;
pub mod profile;
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
    /// The id outside that it stands for.
    pub outside: u32,
    /// How many ids in a row are mapped.
    pub count: u32,
}

/// How ids inside the user namespace correspond to ids outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum IdMap {
    /// A plain caller becomes root inside; a root caller keeps every id that it has.
    #[default]
    Caller,
    /// The caller becomes root inside, and its subordinate ids (subuid(5)) follow from 1 on.
    Auto,
    /// Just these rows.
    Rows(Vec<IdRow>),
}

/// Which network stack the container has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// One of its own, with nothing but loopback.
    None,
    /// The caller's.
    Host,
    /// That of the process with this pid, and its user namespace.
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

/// A container: every isolation option.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Which namespaces are new.
    pub namespaces: NamespaceOptions,
    /// Set in the new UTS namespace; 1 to 64 bytes.
    pub hostname: Option<Vec<u8>>,
    /// The NIS domain name, set in the new UTS namespace; 1 to 64 bytes.
    pub domainname: Option<Vec<u8>>,
    /// User ids inside and outside.
    pub uid_map: IdMap,
    /// Group ids inside and outside.
    pub gid_map: IdMap,
    /// Which network stack; `None`: one of its own where the network namespace is new, else the caller's.
    pub network: Option<Network>,
    /// The directory that becomes `/`; `None`: the host's files.
    pub rootfs: Option<CString>,
    /// What is mounted inside, in this order.
    pub mounts: Vec<Mount>,
    /// Whether the root is read-only, with everything below it but what [`Self::mounts`] adds.
    pub read_only: bool,
    /// Where the writes to the root go.
    pub overlay: Overlay,
    /// What confines it beyond namespaces.
    pub confine: Confine,
    /// Whether PID 1 is the tiny init instead of the command.
    pub init: bool,
    /// Whether the container ends with the calling process.
    pub die_with_parent: bool,
    /// `CLOCK_MONOTONIC` in the new time namespace.
    pub monotonic_offset: Option<TimeOffset>,
    /// `CLOCK_BOOTTIME` in the new time namespace.
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

/// Where the command starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum WorkingDirectory {
    /// The caller's, or `/` where that does not exist inside.
    #[default]
    Caller,
    /// This one; it must exist inside.
    Path(CString),
}

/// A command and the process that it runs in: what execve(2) takes, and the state of its process.
#[derive(Clone, Debug)]
pub struct CommandSpec {
    /// The files to execute: the first that can be is.
    pub candidates: Vec<CString>,
    /// The arguments, the program's name included.
    pub argv: Vec<CString>,
    /// The environment.
    pub envp: Environment,
    /// Where it starts.
    pub working_directory: WorkingDirectory,
    /// What becomes descriptor 0, 1 and 2; `None` leaves the caller's.
    pub stdio: [Option<RawFd>; 3],
    /// Descriptors that the command keeps, under the same number.
    pub pass_fds: Vec<RawFd>,
    /// Whether every other descriptor from 3 on is closed.
    pub close_fds: bool,
    /// Whether SIGPIPE and SIGXFSZ, which interpreters ignore, become default again.
    pub restore_signals: bool,
    /// The file mode creation mask; `None` leaves the caller's.
    pub umask: Option<u32>,
    /// Whether the command gets a session of its own.
    pub new_session: bool,
    /// setpgid(0, this).
    pub process_group: Option<i32>,
    /// Whether descriptor 0 becomes the controlling terminal of the new session.
    pub terminal: bool,
    /// The user id inside; `None`: root inside where the user namespace is new or joined.
    pub user: Option<u32>,
    /// The group id inside.
    pub group: Option<u32>,
    /// The supplementary group ids inside.
    pub groups: Option<Vec<u32>>,
}

impl CommandSpec {
    /// A command in the caller's directory with the caller's standard streams:
    /// descriptors from 3 on are closed, the environment is empty until it is set.
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

/// What runs in the container.
#[derive(Clone, Copy, Debug)]
pub enum Payload<'a> {
    /// A command.
    Command(&'a CommandSpec),
    /// Nothing but the tiny init, which holds the namespaces for those who will enter them.
    Hold,
    /// A copy of the calling process, a child of the tiny init: see [`launch::fork`](crate::launch::fork).
    /// Of the command, what says how the process is, not what it executes.
    Fork(&'a CommandSpec),
}

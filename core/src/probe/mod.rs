//! Probes test what works on this machine. Each is a few system calls, made by a child that then exits.
//!
//! A probe of a step makes the calls that a plan has for that step, and leaves the other steps out: one broken
//! step does not fail every probe. The child shares the caller's memory and walks a program, as the child of a
//! launch does, so a probe is as quick as a launch, whatever the caller's size and number of threads. A probe
//! changes nothing in the caller, and all that it makes ends with its child.

mod trial;

use std::ffi::CString;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};

use crate::error::{LaunchError, SpawnError};
use crate::host::{Kernel, landlock};
use crate::plan::call::Handles;
use crate::spec::landlock::Abi;
use crate::step::Step;
use crate::{caller, launch, watchdog};

use trial::Trial;

macro_rules! probes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal),+ $(,)?) => {
        /// A feature to test.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Probe { $($(#[doc = $doc])+ $variant),+ }

        impl Probe {
            /// Every probe.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Its short name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }
    };
}

probes! {
    /// A new user namespace, and its id maps.
    User = "user",
    /// Subordinate ids in a new user namespace, mapped by newuidmap and newgidmap.
    SubordinateIds = "subordinate-ids",
    /// The capabilities that a new user namespace gives: one is dropped from the bounding set.
    Capabilities = "capabilities",
    /// A new UTS namespace, and its hostname.
    Hostname = "hostname",
    /// A new mount namespace, made private.
    Mount = "mount",
    /// A new UTS namespace.
    Uts = "uts",
    /// A new IPC namespace.
    Ipc = "ipc",
    /// A new PID namespace.
    Pid = "pid",
    /// A new network namespace.
    Net = "net",
    /// A new cgroup namespace.
    Cgroup = "cgroup",
    /// A new time namespace, and offsets of its clocks.
    Time = "time",
    /// A fresh proc.
    FreshProc = "fresh-proc",
    /// A fresh sysfs, with the mount on /sys/fs/cgroup carried over.
    FreshSys = "fresh-sys",
    /// Private /dev/shm and /dev/mqueue.
    SharedMemory = "shared-memory",
    /// The loopback interface of a new network.
    Loopback = "loopback",
    /// ICMP sockets in a new network.
    Ping = "ping",
    /// An overlay on a tmpfs, written to.
    Overlay = "overlay",
    /// `pivot_root(2)` to a tmpfs.
    PivotRoot = "pivot-root",
    /// A subtree made read-only, `mount_setattr(2)`.
    ReadOnly = "read-only",
    /// Private pseudoterminals.
    Devpts = "devpts",
    /// A path resolved inside a root, `openat2(2)`.
    ResolveInRoot = "resolve-in-root",
    /// unshare(2) of a user namespace, as `minidocker.linux` makes it.
    Unshare = "unshare",
    /// `pidfd_open(2)` and `pidfd_send_signal(2)`.
    Pidfd = "pidfd",
    /// `pidfd_send_signal(2)` to a whole process group.
    PidfdGroup = "pidfd-group",
    /// `close_range(2)` that marks descriptors close-on-exec.
    CloseRange = "close-range",
    /// The helper program, executed from a memfd.
    MemfdExec = "memfd-exec",
    /// A seccomp filter that allows everything.
    Seccomp = "seccomp",
    /// A Landlock domain that handles one right.
    Landlock = "landlock",
    /// A wait without end: a step that hangs, for tests.
    Forever = "forever",
    /// A directory, made and removed. Below a control group it is a control group.
    Directory = "directory",
    /// clone(2) with flags that exclude each other. The kernel returns EINVAL; any other result comes from a seccomp
    /// filter.
    FilterClone = "filter-clone",
    /// unshare(2) with a flag that it does not accept: EINVAL without a filter.
    FilterUnshare = "filter-unshare",
    /// mount(2) with an invalid address: EFAULT without a filter.
    FilterMount = "filter-mount",
    /// setns(2) with an invalid descriptor: EBADF without a filter.
    FilterSetns = "filter-setns",
    /// `memfd_create(2)` with flags that do not exist: EINVAL without a filter.
    FilterMemfd = "filter-memfd_create",
}

impl Probe {
    /// The probe of that name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|probe| probe.name() == name)
    }
}

/// The options of a probe.
#[derive(Clone, Debug)]
pub struct ProbeOptions {
    /// Whether the child gets a new user namespace, which a plain caller needs.
    pub user_namespace: bool,
    /// The directory that [`Probe::Directory`] makes.
    pub path: Option<CString>,
    /// The time limit for the child.
    pub timeout: Duration,
}

impl Default for ProbeOptions {
    fn default() -> Self {
        Self { user_namespace: true, path: None, timeout: Duration::from_secs(2) }
    }
}

/// The result of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Every call succeeded.
    Works,
    /// A call failed.
    Refused {
        /// The call with its arguments, or the step.
        call: String,
        /// Its error number.
        errno: i32,
        /// The file that the call used.
        filename: Option<PathBuf>,
    },
    /// The probe could not start.
    Impossible {
        /// The reason.
        reason: String,
    },
    /// A signal ended the child: a seccomp filter sends SIGSYS.
    Killed {
        /// Its number.
        signal: i32,
    },
    /// The child exceeded the time limit and was killed.
    Hung,
}

impl Answer {
    pub(crate) fn of_error(error: SpawnError) -> Self {
        Self::Refused {
            call: error.step.text().to_owned(),
            errno: error.errno,
            filename: error.filename.map(PathBuf::from),
        }
    }
}

impl Probe {
    /// Runs the probe in a child, which is gone afterwards.
    #[must_use]
    pub fn run(self, options: &ProbeOptions) -> Answer {
        let trial = match Trial::new(self, options) {
            Ok(trial) => trial,
            Err(answer) => return answer,
        };
        let helper = match (self == Self::MemfdExec).then(caller::fresh_helper).transpose() {
            Ok(helper) => helper,
            Err(error) => return Answer::of_error(error),
        };
        let helper = helper.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        let handles = Handles { helper, ..Handles::NONE };
        let deadline = Some(Instant::now() + options.timeout);
        let walked =
            launch::walk(&trial.sequence, trial.flags, trial.maps.as_ref(), handles, deadline);
        match walked {
            Ok(walked) => self.judge(&trial, &walked),
            Err(LaunchError::Spawn(error)) if error.step == Step::Clone => {
                Answer::Refused { call: trial.clone_text(), errno: error.errno, filename: None }
            }
            Err(LaunchError::Spawn(error)) => Answer::of_error(error),
            // A trial clones no mounts whose ids are to be mapped.
            Err(LaunchError::TimedOut | LaunchError::Interrupted | LaunchError::Spec(_)) => {
                Answer::Hung
            }
        }
    }

    fn judge(self, trial: &Trial, walked: &launch::Walked) -> Answer {
        match (walked.failed, walked.status) {
            (Some((index, errno)), _) => match trial.call(index) {
                Some((call, filename)) => Answer::Refused { call, errno, filename },
                // An index past the last call: all of them succeeded.
                None => Answer::Works,
            },
            (None, Some(status)) if libc::WIFSIGNALED(status) => {
                Answer::Killed { signal: libc::WTERMSIG(status) }
            }
            // The child executed another program, as it does only in this probe. There is no status if another
            // wait(2) has reaped it.
            (None, _) if self == Self::MemfdExec => Answer::Works,
            (None, _) => Answer::Killed { signal: libc::SIGKILL },
        }
    }
}

/// Starts a watchdog beside that of this process, and ends it.
///
/// # Errors
///
/// [`LaunchError::Spawn`] with the call that is refused; [`LaunchError::TimedOut`].
pub fn start_watchdog(timeout: Duration) -> Result<(), LaunchError> {
    watchdog::try_to_start(timeout)
}

/// Whether the caller's root directory is the root of a mount, which it is not after chroot(2) to a plain directory.
/// `None` if the kernel cannot tell (before Linux 5.8).
#[must_use]
pub fn root_is_a_mount() -> Option<bool> {
    let found = statx(CWD, "/", AtFlags::empty(), StatxFlags::empty()).ok()?;
    let known = found.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT);
    known.then(|| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// The version of Landlock in this kernel; `None` if it has none.
///
/// # Errors
///
/// The error of `landlock_create_ruleset(2)`, if a seccomp filter around the caller refuses the call, or may do so: it
/// answers ENOSYS, and nothing shows whether the kernel has Landlock.
pub fn landlock_version() -> std::io::Result<Option<u8>> {
    Ok(landlock::probe(Kernel::running().version)?.map(Abi::version))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(probe: Probe) -> Answer {
        probe.run(&ProbeOptions::default())
    }

    #[test]
    fn names_are_unique_and_lead_back() {
        for &probe in Probe::ALL {
            assert_eq!(Probe::of_name(probe.name()), Some(probe));
        }
        assert_eq!(Probe::of_name("nonsense"), None);
    }

    #[test]
    fn a_failing_call_is_reported_with_its_arguments() {
        let path = Some(c"/proc/nowhere".to_owned());
        let answer = Probe::Directory.run(&ProbeOptions { path, ..ProbeOptions::default() });
        let Answer::Refused { call, errno, filename } = answer else { panic!("{answer:?}") };
        assert_eq!(call, "mkdirat(AT_FDCWD, \"/proc/nowhere\", 0755)");
        assert_eq!(errno, libc::ENOENT);
        assert_eq!(filename, Some("/proc/nowhere".into()));
    }

    #[test]
    fn without_a_filter_the_kernel_itself_refuses_the_invalid_calls() {
        for (probe, expected) in [
            (Probe::FilterClone, libc::EINVAL),
            (Probe::FilterUnshare, libc::EINVAL),
            (Probe::FilterMount, libc::EFAULT),
            (Probe::FilterSetns, libc::EBADF),
            (Probe::FilterMemfd, libc::EINVAL),
        ] {
            match answer(probe) {
                Answer::Refused { errno, .. } => assert_eq!(errno, expected, "{probe:?}"),
                other => panic!("{probe:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn probes_that_need_no_privilege_work() {
        for probe in [Probe::Pidfd, Probe::CloseRange, Probe::MemfdExec] {
            assert_eq!(answer(probe), Answer::Works, "{probe:?}");
        }
    }

    #[test]
    fn a_step_that_hangs_is_killed_when_its_time_is_up() {
        let options =
            ProbeOptions { timeout: Duration::from_millis(50), ..ProbeOptions::default() };
        let began = Instant::now();
        assert_eq!(Probe::Forever.run(&options), Answer::Hung);
        assert!(began.elapsed() < Duration::from_secs(1));
    }

    #[test]
    fn the_directory_probe_needs_a_path() {
        assert!(matches!(answer(Probe::Directory), Answer::Refused { errno: libc::ENOENT, .. }));
    }
}

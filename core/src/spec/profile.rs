//! Profiles: named sets of the options that confine a container.
//!
//! A profile is data that a plan reads; each option that is given beside it replaces one thing.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::error::{Reason, ReasonKind, SpecError};
use crate::spec::capabilities::CapabilitySet;
use crate::spec::landlock::{AccessFs, PathRule, Scope};
use crate::spec::nearest::nearest_or;
use crate::spec::seccomp::{self, SeccompProfile};
use crate::spec::ulimits::Ulimit;

/// The name of a set of options.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Profile {
    /// The namespaces and nothing else: every capability of its own user namespace.
    #[default]
    Namespaces,
    /// What Docker gives a container that asks for nothing.
    Docker,
    /// For code that nobody trusts.
    Untrusted,
}

/// What a profile says of each option.
#[derive(Debug, Clone, Copy)]
pub struct Confinement {
    /// The capabilities that `cap_add` and `cap_drop` begin with, of those that the kernel has.
    pub capabilities: CapabilitySet,
    /// Whether execve(2) can give no privilege. A filter without `CAP_SYS_ADMIN` needs it too.
    pub no_new_privileges: bool,
    /// Paths that become empty and read-only, files and directories. One that does not exist is left
    /// out.
    pub masked_paths: &'static [&'static str],
    /// Paths that become read-only, with all below; one that does not exist is left out.
    pub read_only_paths: &'static [&'static str],
    /// Limits that are lowered to these where they are above them, and never raised: docker's name,
    /// soft, hard.
    pub ulimits: &'static [Ulimit],
    /// What is seen of the host's files where there is no `rootfs`.
    pub view: Option<&'static FileSystemView>,
    /// Landlock, where the kernel has it.
    pub landlock: Option<&'static LandlockDomain>,
    seccomp: Option<fn() -> Arc<SeccompProfile>>,
}

impl Confinement {
    /// Whether paths of the container's are covered: that takes mounts of its own.
    #[must_use]
    pub const fn covers_files(&self) -> bool {
        !self.masked_paths.is_empty()
    }

    /// The seccomp profile; `None` where the container has no filter.
    #[must_use]
    pub fn seccomp(&self) -> Option<Arc<SeccompProfile>> {
        self.seccomp.map(|profile| profile())
    }
}

/// What is seen of the host's files. A path that does not exist is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileSystemView {
    /// Everything is read-only but what is named here and what the caller mounts.
    pub read_only: bool,
    /// Directories that are empty and writable, and thrown away: a tmpfs each, mode 1777.
    pub private: &'static [&'static str],
    /// Directories of which nothing is seen: each is empty and read-only.
    pub hidden: &'static [&'static str],
    /// Files of which nothing is seen: each is empty and read-only.
    pub hidden_files: &'static [&'static str],
    /// Whether the caller's home directory is hidden too, wherever it is.
    pub hide_home: bool,
}

/// What Landlock leaves of the files. Writable mounts of the caller's come to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LandlockDomain {
    /// The rights, each beneath its path.
    pub rules: &'static [PathRule],
    /// What ends at the border of the domain.
    pub scope: Scope,
}

/// What Docker covers: what tells of the host, or reaches its keys and memory. To these come the
/// [`per_cpu_masked_paths`].
pub const DOCKER_MASKED_PATHS: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// What Docker makes read-only: what changes the host.
pub const DOCKER_READ_ONLY_PATHS: &[&str] =
    &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The counters of throttling that Docker covers too, one directory for each of `cpus` processors;
/// virtual machines have none.
pub fn per_cpu_masked_paths(cpus: usize) -> impl Iterator<Item = String> {
    (0..cpus).map(|cpu| format!("/sys/devices/system/cpu/cpu{cpu}/thermal_throttle"))
}

const NAMESPACES: Confinement = Confinement {
    capabilities: CapabilitySet::up_to(63),
    no_new_privileges: true,
    masked_paths: &[],
    read_only_paths: &[],
    ulimits: &[],
    view: None,
    landlock: None,
    seccomp: None,
};

const DOCKER: Confinement = Confinement {
    capabilities: CapabilitySet::DOCKER,
    // Docker leaves it off: setuid programs work, with the capabilities of the bounding set.
    no_new_privileges: false,
    masked_paths: DOCKER_MASKED_PATHS,
    read_only_paths: DOCKER_READ_ONLY_PATHS,
    ulimits: &[],
    view: None,
    landlock: None,
    seccomp: Some(seccomp::docker),
};

const UNTRUSTED: Confinement = Confinement {
    capabilities: CapabilitySet::EMPTY,
    no_new_privileges: true,
    masked_paths: DOCKER_MASKED_PATHS,
    read_only_paths: DOCKER_READ_ONLY_PATHS,
    ulimits: UNTRUSTED_ULIMITS,
    view: Some(&UNTRUSTED_VIEW),
    landlock: Some(&UNTRUSTED_LANDLOCK),
    seccomp: Some(seccomp::untrusted),
};

const UNTRUSTED_ULIMITS: &[Ulimit] = &[
    // A core file is a copy of memory, and core_pattern may be a program outside.
    Ulimit::of("core", 0),
    // Enough for a pool of processes with a hundred descriptors each.
    Ulimit::of("nofile", 4096),
    // Threads count, and on older kernels those of the caller's other programs too.
    Ulimit::of("nproc", 4096),
    Ulimit::of("memlock", 64 << 20),
    Ulimit::of("msgqueue", 819_200),
    Ulimit::of("rtprio", 0),
];

const UNTRUSTED_VIEW: FileSystemView = FileSystemView {
    read_only: true,
    // /run has the sockets of the host's services in it.
    private: &["/tmp", "/var/tmp", "/run", "/dev/shm"],
    hidden: &[
        "/root",
        "/home",
        "/mnt",
        "/media",
        "/srv",
        "/boot",
        "/lost+found",
        "/etc/cni",
        "/etc/containers",
        "/etc/docker",
        "/etc/kubernetes",
        "/etc/letsencrypt",
        "/etc/NetworkManager/system-connections",
        "/etc/ssh",
        "/etc/ssl/private",
        "/etc/sudoers.d",
        "/etc/wireguard",
        "/sys/fs/bpf",
        "/sys/kernel/debug",
        "/sys/kernel/security",
        "/sys/kernel/tracing",
        "/var/backups",
        "/var/cache/debconf",
        "/var/lib/containerd",
        "/var/lib/containers",
        "/var/lib/docker",
        "/var/lib/kubelet",
        "/var/lib/lxc",
        "/var/lib/machines",
        "/var/lib/mysql",
        "/var/lib/postgresql",
        "/var/lib/private",
        "/var/lib/sss",
        "/var/log",
        "/var/mail",
        "/var/spool",
    ],
    hidden_files: &[
        "/etc/gshadow",
        "/etc/gshadow-",
        "/etc/krb5.keytab",
        "/etc/machine-id",
        "/etc/security/opasswd",
        "/etc/shadow",
        "/etc/shadow-",
        "/etc/sudoers",
    ],
    hide_home: true,
};

const UNTRUSTED_LANDLOCK: LandlockDomain = LandlockDomain {
    rules: &[
        PathRule { path: "/", access: AccessFs::READ },
        PathRule { path: "/dev", access: AccessFs::USE },
        PathRule { path: "/proc", access: AccessFs::USE },
        PathRule { path: "/dev/shm", access: AccessFs::WRITE },
        PathRule { path: "/tmp", access: AccessFs::WRITE },
        PathRule { path: "/var/tmp", access: AccessFs::WRITE },
        PathRule { path: "/run", access: AccessFs::WRITE },
    ],
    scope: Scope::ABSTRACT_UNIX_SOCKET.union(Scope::SIGNAL),
};

impl Profile {
    /// Every profile.
    pub const ALL: [Self; 3] = [Self::Namespaces, Self::Docker, Self::Untrusted];

    /// The name that the option `profile` takes.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Namespaces => "namespaces",
            Self::Docker => "docker",
            Self::Untrusted => "untrusted",
        }
    }

    /// What it says of each option.
    #[must_use]
    pub const fn confinement(self) -> &'static Confinement {
        match self {
            Self::Namespaces => &NAMESPACES,
            Self::Docker => &DOCKER,
            Self::Untrusted => &UNTRUSTED,
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Profile {
    type Err = SpecError;

    fn from_str(name: &str) -> Result<Self, SpecError> {
        Self::ALL.into_iter().find(|profile| profile.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name);
            let remedy = nearest_or(name, names, || format!("It is one of {}", names.join(", ")));
            SpecError::of_text(
                "profile",
                name,
                Reason::new(ReasonKind::UnknownName, "no profile has this name"),
                remedy,
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Profile, per_cpu_masked_paths};
    use crate::spec::capabilities::CapabilitySet;
    use crate::spec::seccomp::{docker, untrusted};

    #[test]
    fn a_profile_is_found_by_its_name_or_refused_with_the_nearest() {
        for profile in Profile::ALL {
            assert_eq!(profile.to_string().parse(), Ok(profile));
        }
        let error = "untrustd".parse::<Profile>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "profile=\"untrustd\": no profile has this name. Did you mean \"untrusted\"?"
        );
        let error = "x".parse::<Profile>().unwrap_err();
        assert_eq!(error.remedy, "It is one of namespaces, docker, untrusted".into());
    }

    #[test]
    fn each_profile_takes_away_what_the_one_before_it_does_and_more() {
        let [namespaces, docker_set, none] =
            Profile::ALL.map(|profile| profile.confinement().capabilities);
        assert_eq!(namespaces.bits(), u64::MAX);
        assert_eq!(docker_set, CapabilitySet::DOCKER);
        assert_eq!(none, CapabilitySet::EMPTY);
        let [no_filter, theirs, ours] = Profile::ALL.map(|profile| profile.confinement().seccomp());
        assert_eq!((no_filter, theirs, ours), (None, Some(docker()), Some(untrusted())));
        assert!(Profile::Untrusted.confinement().no_new_privileges);
        assert!(!Profile::Docker.confinement().no_new_privileges);
    }

    #[test]
    fn every_path_is_absolute_and_there_once() {
        for profile in Profile::ALL {
            let confinement = profile.confinement();
            let mut paths: Vec<&str> = Vec::new();
            paths.extend(confinement.masked_paths);
            paths.extend(confinement.read_only_paths);
            if let Some(view) = confinement.view {
                paths.extend(view.private.iter().chain(view.hidden).chain(view.hidden_files));
            }
            let count = paths.len();
            paths.sort_unstable();
            paths.dedup();
            assert_eq!(paths.len(), count, "{profile}");
            assert!(paths.iter().all(|path| path.starts_with('/') && !path.ends_with('/')));
        }
        assert_eq!(
            per_cpu_masked_paths(2).last().as_deref(),
            Some("/sys/devices/system/cpu/cpu1/thermal_throttle")
        );
    }

    #[test]
    fn landlock_lets_the_private_directories_be_written_and_no_other() {
        let confinement = Profile::Untrusted.confinement();
        let (view, landlock) = (confinement.view.unwrap(), confinement.landlock.unwrap());
        let mut writable: Vec<&str> = landlock
            .rules
            .iter()
            .filter(|rule| rule.access == crate::spec::landlock::AccessFs::WRITE)
            .map(|rule| rule.path)
            .collect();
        let mut private = view.private.to_vec();
        writable.sort_unstable();
        private.sort_unstable();
        assert_eq!(writable, private);
    }
}

//! Profiles: named sets of the options that confine a container.
//!
//! A profile is data that a plan reads. Each option given with it replaces one part.

use std::ffi::CStr;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::error::{Reason, ReasonKind, SpecError};
use crate::spec::capabilities::CapabilitySet;
use crate::spec::landlock::{AccessFs, PathRule, Scope};
use crate::spec::nearest::nearest_or;
use crate::spec::seccomp::{self, SeccompProfile};
use crate::spec::ulimits::Ulimit;

/// A named set of options.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Profile {
    /// Only namespaces, with every capability in the container's user namespace.
    #[default]
    Namespaces,
    /// Docker's defaults.
    Docker,
    /// For untrusted code.
    Untrusted,
}

/// A profile's value of each option.
#[derive(Debug, Clone, Copy)]
pub struct Confinement {
    /// The capabilities to which `cap_add` and `cap_drop` apply, of those that the kernel has.
    pub capabilities: CapabilitySet,
    /// Whether execve(2) cannot grant privileges. Installing a filter without `CAP_SYS_ADMIN` requires this.
    pub no_new_privileges: bool,
    /// Files and directories that become empty and read-only. A path that does not exist is skipped.
    pub masked_paths: &'static [&'static str],
    /// Paths that become read-only, with everything below. A path that does not exist is skipped.
    pub read_only_paths: &'static [&'static str],
    /// Whether /proc is read-only in the caller's PID namespace. It has files that set the priorities of processes, and
    /// which of them the kernel kills when memory is short.
    pub read_only_shared_proc: bool,
    /// Maximum resource limits: the caller's higher limits are lowered to these, and none is raised.
    pub ulimits: &'static [Ulimit],
    /// Limits of each user in the container's own user namespace: files in /proc/sys/user, and their values.
    pub user_limits: &'static [(&'static CStr, u32)],
    /// The view of the host's files, for a container without `rootfs`.
    pub view: Option<&'static FileSystemView>,
    /// The variables of the caller's environment that a command inherits; `None`: all. A final `*` stands for the
    /// rest of a name. `TMPDIR` is inherited only if the directory is the container's own or in a mount.
    pub inherited_variables: Option<&'static [&'static str]>,
    /// Whether a root caller's container has ids of its own outside.
    pub own_ids: bool,
    /// The Landlock domain, if the kernel has Landlock.
    pub landlock: Option<&'static LandlockDomain>,
    seccomp: Option<fn() -> Arc<SeccompProfile>>,
}

impl Confinement {
    /// Return whether the profile covers paths, which requires a mount namespace.
    #[must_use]
    pub const fn covers_files(&self) -> bool {
        !self.masked_paths.is_empty()
    }

    /// Return the seccomp profile; `None` for no filter.
    #[must_use]
    pub fn seccomp(&self) -> Option<Arc<SeccompProfile>> {
        self.seccomp.map(|profile| profile())
    }
}

/// The host's files that a container without `rootfs` sees: nothing but what is listed. An entry that the host lacks is
/// left out. `*` in a name stands for any part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileSystemView {
    /// Files and directories that are bound, read-only, with everything below them.
    pub bound: &'static [&'static str],
    /// Directories among these that are replaced, and the entries that their replacements have.
    pub replaced: &'static [(&'static str, &'static [&'static str])],
    /// Files that are copied if every user may read them. A link into a bound directory stays a link.
    pub copied: &'static [&'static str],
    /// Directories that are empty and read-only.
    pub empty: &'static [&'static str],
    /// Directories that are empty, writable for every user, and end with the container. A `rootfs` has them, too.
    pub private: &'static [&'static str],
    /// Further ones, which a `rootfs` does not have. The caller's home directories are added.
    pub homes: &'static [&'static str],
}

/// A Landlock domain. The caller's writable mounts are added to its rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LandlockDomain {
    /// The rights to each path and everything beneath it.
    pub rules: &'static [PathRule],
    /// Further rules where the PID namespace is not the caller's, so that /proc has no processes from outside.
    pub rules_of_own_pids: &'static [PathRule],
    /// Actions that cannot reach processes outside the domain.
    pub scope: Scope,
}

/// The paths that Docker masks, apart from [`per_cpu_masked_paths`]: they reveal facts about the host, or give
/// access to its keys and memory.
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

/// The paths that Docker makes read-only: writes to them change the host.
pub const DOCKER_READ_ONLY_PATHS: &[&str] =
    &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Return the directories of throttling counters that Docker masks too, one for each processor.
///
/// Virtual machines have none.
pub fn per_cpu_masked_paths(cpus: usize) -> impl Iterator<Item = String> {
    (0..cpus).map(|cpu| format!("/sys/devices/system/cpu/cpu{cpu}/thermal_throttle"))
}

const NAMESPACES: Confinement = Confinement {
    capabilities: CapabilitySet::up_to(63),
    no_new_privileges: true,
    masked_paths: &[],
    read_only_paths: &[],
    read_only_shared_proc: false,
    ulimits: &[],
    user_limits: &[],
    view: None,
    inherited_variables: None,
    own_ids: false,
    landlock: None,
    seccomp: None,
};

const DOCKER: Confinement = Confinement {
    capabilities: CapabilitySet::DOCKER,
    // Off in Docker: setuid programs work, with the capabilities of the bounding set.
    no_new_privileges: false,
    masked_paths: DOCKER_MASKED_PATHS,
    read_only_paths: DOCKER_READ_ONLY_PATHS,
    read_only_shared_proc: false,
    ulimits: &[],
    user_limits: &[],
    view: None,
    inherited_variables: None,
    own_ids: false,
    landlock: None,
    seccomp: Some(seccomp::docker),
};

const UNTRUSTED: Confinement = Confinement {
    capabilities: CapabilitySet::EMPTY,
    no_new_privileges: true,
    masked_paths: UNTRUSTED_MASKED_PATHS,
    read_only_paths: DOCKER_READ_ONLY_PATHS,
    read_only_shared_proc: true,
    ulimits: UNTRUSTED_ULIMITS,
    user_limits: UNTRUSTED_USER_LIMITS,
    view: Some(&UNTRUSTED_VIEW),
    // The others may be tokens, or name files that the view does not show.
    inherited_variables: Some(&["HOME", "LANG", "LC_*", "PATH", "TERM", "TMPDIR", "TZ"]),
    own_ids: true,
    landlock: Some(&UNTRUSTED_LANDLOCK),
    seccomp: Some(seccomp::untrusted),
};

const UNTRUSTED_ULIMITS: &[Ulimit] = &[
    // A core file is a copy of memory, and core_pattern may be a program outside.
    Ulimit::of("core", 0),
    // Enough for a pool of processes with a hundred descriptors each.
    Ulimit::of("nofile", 4096),
    // This counts threads, and on older kernels also those of the caller's other programs.
    Ulimit::of("nproc", 4096),
    // Half of the kernel's default: the kernel counts what a plain caller's containers take to the caller, too.
    Ulimit::of("memlock", 4 << 20),
    // Half of the kernel's default, for the same reason.
    Ulimit::of("msgqueue", 409_600),
    // Signals that wait, and POSIX timers. The kernel's default grows with the memory: 3,800 for each GiB.
    Ulimit::of("sigpending", 1024),
    // Neither a real-time policy nor a better niceness than the caller's.
    Ulimit::of("rtprio", 0),
    Ulimit::of("nice", 0),
];

/// The kernel counts instances and watches of inotify to the user who made the user namespace, too, whatever ids it maps.
const UNTRUSTED_USER_LIMITS: &[(&CStr, u32)] = &[
    // Half of the kernel's default.
    (c"/proc/sys/user/max_inotify_instances", 64),
    // The least that the kernel has as its default, which grows with the memory.
    (c"/proc/sys/user/max_inotify_watches", 8192),
];

/// Docker's, and the host's boot parameters.
const UNTRUSTED_MASKED_PATHS: &[&str] = &{
    let mut paths = ["/proc/cmdline"; DOCKER_MASKED_PATHS.len() + 1];
    paths.split_at_mut(1).1.copy_from_slice(DOCKER_MASKED_PATHS);
    paths
};

const UNTRUSTED_VIEW: FileSystemView = FileSystemView {
    bound: &[
        "/usr",
        "/bin",
        "/sbin",
        "/lib",
        "/lib32",
        "/lib64",
        "/libx32",
        "/nix/store",
        "/run/current-system/sw",
        "/etc/alternatives",
        "/etc/ca-certificates/extracted",
        "/etc/crypto-policies",
        "/etc/emacs",
        "/etc/fonts",
        "/etc/groff",
        "/etc/ImageMagick-*",
        "/etc/java-*",
        "/etc/ld.so.conf.d",
        "/etc/perl",
        "/etc/php.d",
        "/etc/php/*/cli",
        // The settings of extensions, to which links in the one above lead.
        "/etc/php/*/mods-available",
        "/etc/php/conf.d",
        "/etc/pki/ca-trust/extracted",
        "/etc/pki/tls/certs",
        "/etc/python3*",
        "/etc/sgml",
        "/etc/ssl/certs",
        "/etc/terminfo",
        "/etc/texmf",
        "/etc/vim",
        "/etc/xml",
        "/sys/devices/system",
        "/sys/kernel/mm/transparent_hugepage",
        "/var/cache/fontconfig",
        "/var/lib/ghc",
        "/var/lib/ghostscript",
        "/var/lib/texmf",
        "/var/lib/xml-core",
    ],
    replaced: &[(
        "/usr/local",
        &["bin", "sbin", "lib*", "libexec", "share", "include", "cuda*", "go*"],
    )],
    copied: &[
        "/etc/*-release",
        "/etc/bash.bashrc",
        "/etc/debian_version",
        "/etc/gai.conf",
        "/etc/host.conf",
        "/etc/inputrc",
        "/etc/ld-musl-*",
        "/etc/ld.so.cache",
        "/etc/ld.so.conf",
        "/etc/locale.alias",
        "/etc/localtime",
        "/etc/magic",
        "/etc/manpath.config",
        "/etc/matplotlibrc",
        "/etc/mime.types",
        "/etc/mtab",
        "/etc/nginx/mime.types",
        "/etc/os-release",
        "/etc/papersize",
        "/etc/php.ini",
        "/etc/php/php.ini",
        "/etc/pki/java/cacerts",
        "/etc/pki/tls/cert.pem",
        "/etc/pki/tls/openssl.cnf",
        "/etc/profile",
        "/etc/protocols",
        "/etc/R/ldpaths",
        "/etc/R/Makeconf",
        "/etc/R/Renviron",
        "/etc/R/repositories",
        "/etc/services",
        "/etc/ssl/ca-bundle.pem",
        "/etc/ssl/cert.pem",
        "/etc/ssl/openssl.cnf",
        "/etc/timezone",
        "/etc/X11/rgb.txt",
    ],
    empty: &["/media", "/mnt", "/opt", "/srv", "/var/lib"],
    private: &["/tmp", "/var/tmp", "/run", "/dev/shm"],
    homes: &["/home", "/root"],
};

const UNTRUSTED_LANDLOCK: LandlockDomain = LandlockDomain {
    rules: &[
        PathRule { path: "/", access: AccessFs::READ },
        PathRule { path: "/dev", access: AccessFs::USE },
        PathRule { path: "/dev/shm", access: AccessFs::WRITE },
        PathRule { path: "/tmp", access: AccessFs::WRITE },
        PathRule { path: "/var/tmp", access: AccessFs::WRITE },
        PathRule { path: "/run", access: AccessFs::WRITE },
    ],
    rules_of_own_pids: &[PathRule { path: "/proc", access: AccessFs::USE }],
    scope: Scope::ABSTRACT_UNIX_SOCKET.union(Scope::SIGNAL),
};

impl Profile {
    /// Every profile.
    pub const ALL: [Self; 3] = [Self::Namespaces, Self::Docker, Self::Untrusted];

    /// Return the name, a value of the option `profile`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Namespaces => "namespaces",
            Self::Docker => "docker",
            Self::Untrusted => "untrusted",
        }
    }

    /// Return the profile's options.
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
    fn a_profile_is_found_by_its_name_and_an_error_has_the_nearest() {
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
    fn each_profile_is_stricter_than_the_one_before() {
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
    fn every_path_is_absolute_and_listed_once() {
        for profile in Profile::ALL {
            let confinement = profile.confinement();
            let mut paths: Vec<&str> = Vec::new();
            paths.extend(confinement.masked_paths);
            paths.extend(confinement.read_only_paths);
            if let Some(view) = confinement.view {
                paths.extend(view.bound.iter().chain(view.copied).chain(view.empty));
                paths.extend(view.private.iter().chain(view.homes));
                paths.extend(view.replaced.iter().map(|(path, _)| path));
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
    fn landlock_allows_writes_only_to_the_private_directories() {
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

//! Facts about the caller and its system, gathered once before a plan is made. A plan is a pure function of the
//! specification and these facts, so its tests need no privilege.

mod accounts;
pub(crate) mod files;
pub(crate) mod hosts;
pub(crate) mod id_pool;
pub(crate) mod ids;
pub(crate) mod kernel_mounts;
pub(crate) mod landlock;
pub(crate) mod made_of;
pub mod namespaces;
mod settings;
pub mod target;

use std::ffi::CString;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use rustix::thread::capability_is_in_bounding_set;

use crate::error::{SpawnError, SpecError};
use crate::host::files::{Files, HostContext, Root};
use crate::host::id_pool::IdPool;
use crate::host::kernel_mounts::{Attributes, sys_is_mounted};
use crate::host::target::Target;
use crate::spec::capabilities::CapabilitySet;
use crate::spec::landlock::Abi;
use crate::spec::namespaces::Kind;
use crate::spec::seccomp::KernelVersion;
use crate::spec::ulimits::Ulimit;
use crate::spec::{IdMap, IdRow, Network, Payload, Spec};
use crate::step::Step;
use crate::sys::dumpable::is_dumpable;

/// The facts that a plan needs.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// The caller's effective user id.
    pub uid: u32,
    /// The caller's effective group id.
    pub gid: u32,
    /// The rows of `/proc/self/uid_map`; read only for a root caller.
    pub uid_rows: Vec<IdRow>,
    /// The rows of `/proc/self/gid_map`, or those of the user namespace that the container enters; read only for a root
    /// caller.
    pub gid_rows: Vec<IdRow>,
    /// Whether a root caller lacks the capabilities to map more than its own ids.
    pub lacks_map_capabilities: bool,
    /// Whether the caller's own user namespace forbids setgroups(2); read only for a root caller that may enter
    /// another.
    pub setgroups_denied: bool,
    /// The caller's subordinate user ids, (first, count); read only for [`IdMap::Auto`].
    pub subordinate_uids: Vec<(u32, u32)>,
    /// The caller's subordinate group ids.
    pub subordinate_gids: Vec<(u32, u32)>,
    /// The content of /etc/hosts; read only if the specification sets a hostname.
    pub hosts: Option<Vec<u8>>,
    /// Whether /dev/shm is a directory.
    pub shm: bool,
    /// Whether /dev/mqueue is a directory.
    pub mqueue: bool,
    /// Whether a sysfs is mounted on /sys.
    pub sys: bool,
    /// Whether something is mounted on /sys/fs/cgroup.
    pub sys_cgroup: bool,
    /// The attributes of the caller's proc; looked up only if the container gets a proc of its own.
    pub(crate) proc_attributes: Attributes,
    /// The attributes of the caller's sysfs; looked up only if the container may get a sysfs of its own.
    pub(crate) sys_attributes: Attributes,
    /// Whether other processes of the same user may trace the caller (`PR_GET_DUMPABLE`).
    pub dumpable: bool,
    /// The caller's process id.
    pub pid: u32,
    /// The caller's working directory; `None` if it was removed.
    pub working_directory: Option<CString>,
    /// The features of the kernel; looked up only if the container is confined.
    pub kernel: Kernel,
    /// The kernel's Landlock version; looked up only if the container gets a Landlock domain.
    pub landlock: Option<Abi>,
    /// The caller's permitted capabilities; read only if the container is confined and has no new user namespace,
    /// which would give every one.
    pub permitted: CapabilitySet,
    /// The caller's own limits, of the resources that the container has limits for.
    pub limits: Vec<Ulimit>,
    /// The caller's limit of file sizes, if its soft limit is below the hard one.
    pub file_size: Option<Ulimit>,
    /// The caller's home directories; looked up only if a profile hides them.
    pub homes: Vec<CString>,
    /// The path of the terminal that is the command's standard input, if the command takes it as its controlling
    /// terminal.
    pub terminal: Option<CString>,
    /// The facts about the container's files, or the error in their options; `None` if the container sees the host's
    /// files.
    pub(crate) files: Option<Box<Result<Files, SpecError>>>,
    /// The ids from which the container takes a range of its own; `None` if it does not.
    pub(crate) id_pool: Option<&'static IdPool>,
}

/// The features of the kernel, which do not change while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// The number of its last capability.
    pub last_capability: u8,
    /// Its version.
    pub version: KernelVersion,
    /// The number of processors with counters of thermal throttling; 0 in most virtual machines.
    pub throttled_cpus: u16,
    /// The machine's memory, in bytes.
    pub memory: u64,
}

impl Default for Kernel {
    /// The oldest supported kernel, with little memory.
    fn default() -> Self {
        let last_capability = CapabilitySet::NEWEST.bit();
        let version = KernelVersion { major: 5, minor: 11 };
        Self { last_capability, version, throttled_cpus: 0, memory: 1 << 30 }
    }
}

impl Kernel {
    /// The running kernel, looked up once in the life of this process.
    #[must_use]
    pub fn running() -> Self {
        static RUNNING: OnceLock<Kernel> = OnceLock::new();
        *RUNNING.get_or_init(|| {
            let fallback = Self::default();
            let read = |path| fs::read_to_string(path).ok();
            let last = read("/proc/sys/kernel/cap_last_cap");
            let version = rustix::system::uname();
            let version = version.release().to_str().ok().and_then(KernelVersion::of_release);
            Self {
                last_capability: last
                    .and_then(|text| text.trim().parse().ok())
                    .unwrap_or_else(last_capability),
                version: version.unwrap_or(fallback.version),
                throttled_cpus: throttled_cpus(),
                memory: memory(),
            }
        })
    }
}

impl Host {
    /// Gathers the facts that a plan for `spec` needs.
    ///
    /// # Errors
    ///
    /// [`SpawnError`] with [`Step::Prepare`] if a file exists but cannot be read, for example because no descriptor
    /// is left. If the plan took that file as absent, it would make a different container. With [`Step::Landlock`] or
    /// [`Step::Ulimits`] if a seccomp filter around the caller refuses a look at what the profile confines by.
    pub fn gather(spec: &Spec) -> Result<Self, SpawnError> {
        let uid = nix::unistd::geteuid().as_raw();
        let gid = nix::unistd::getegid().as_raw();
        let namespaces = spec.namespaces;
        let joined = matches!(spec.network, Some(Network::Join(_)));
        let own_mounts = namespaces.contains(Kind::Mount);
        let own_user = namespaces.contains(Kind::User);
        let lacks_map_capabilities = own_user && uid == 0 && !ids::may_map_others(uid);
        let callers = spec.uid_map == IdMap::Caller || spec.gid_map == IdMap::Caller;
        let own_rows = uid == 0 && !lacks_map_capabilities && (callers || !own_user);
        let (uid_rows, gid_rows) = if own_rows { ids::own_maps()? } else { Default::default() };
        let kernel = if spec.confine.is_bare() { Kernel::default() } else { Kernel::running() };
        let id_pool = if own_rows {
            IdPool::of_root(spec, (&uid_rows, &gid_rows), kernel.version)?
        } else {
            None
        };
        let enters = joined || !namespaces.contains(Kind::User);
        let setgroups_denied = uid == 0
            && enters
            && read("/proc/self/setgroups")?.is_some_and(|text| text.trim_end() == "deny");
        let subordinate = |map: &IdMap, file| {
            if *map == IdMap::Auto { ids::subordinate_ids(file, uid) } else { Ok(Vec::new()) }
        };
        let confinement = spec.confine.profile.confinement();
        let covers = confinement.covers_files();
        let other_sys = own_mounts && (joined || covers || namespaces.contains(Kind::Net));
        let (sys, sys_cgroup) = if other_sys { sys_mounts()? } else { (false, false) };
        let attributes =
            |wanted, path| if wanted { Attributes::at(path) } else { Attributes::default() };
        let own_ipc = own_mounts && namespaces.contains(Kind::Ipc);
        let looks_at_shm = own_ipc || spec.rootfs.is_some();
        let is_directory = |path| -> Result<bool, SpawnError> {
            Ok(looks_at_shm && look_at(path)?.is_some_and(|found| found.is_dir()))
        };
        let homes = if spec.shows_listed_files_only() { homes(uid) } else { Vec::new() };
        let confined = !spec.confine.is_bare();
        let kernel = if confined { Kernel::running() } else { Kernel::default() };
        let landlock = match confinement.landlock {
            Some(_) => landlock::version(kernel.version)?,
            None => None,
        };
        let limits = (confinement.ulimits.iter().chain(&spec.confine.ulimits))
            .map(|limit| Ulimit::current(limit.resource))
            .collect::<std::io::Result<_>>()
            .map_err(|error| refused_look(&error))?;
        let named = own_mounts && spec.hostname.is_some();
        let (shm, mqueue) = (is_directory("/dev/shm")?, is_directory("/dev/mqueue")?);
        let own_ids = id_pool.is_some() || (uid == 0 && id_pool::joins_a_range(spec));
        let files = Files::wanted(spec).then(|| {
            let hostname = spec.hostname.clone().unwrap_or_else(hostname);
            let (shm, mqueue) = (shm && own_ipc, mqueue && own_ipc);
            let context =
                HostContext { sys, shm, mqueue, hostname: &hostname, homes: &homes, own_ids };
            Box::new(Files::gather(spec, &context))
        });
        Ok(Self {
            uid,
            gid,
            uid_rows,
            gid_rows,
            lacks_map_capabilities,
            setgroups_denied,
            subordinate_uids: subordinate(&spec.uid_map, "/etc/subuid")?,
            subordinate_gids: subordinate(&spec.gid_map, "/etc/subgid")?,
            hosts: if named { read_bytes("/etc/hosts")? } else { None },
            shm,
            mqueue,
            sys,
            sys_cgroup,
            proc_attributes: attributes(own_mounts && namespaces.contains(Kind::Pid), "/proc"),
            sys_attributes: attributes(sys, "/sys"),
            pid: std::process::id(),
            dumpable: is_dumpable(),
            working_directory: std::env::current_dir()
                .ok()
                .and_then(|path| CString::new(path.into_os_string().into_vec()).ok()),
            kernel,
            landlock,
            permitted: if confined && !own_user { permitted() } else { CapabilitySet::EMPTY },
            homes,
            limits,
            file_size: Ulimit::current(libc::RLIMIT_FSIZE)
                .ok()
                .filter(|limit| limit.soft < limit.hard),
            terminal: None,
            files,
            id_pool,
        })
    }

    /// Replaces facts about the caller's user namespace by those of the one that the container enters.
    #[must_use]
    pub(crate) fn entering(mut self, target: Option<&Target>) -> Self {
        if let Some(rows) = target.and_then(Target::group_rows) {
            self.gid_rows = rows.to_vec();
        }
        self
    }

    /// Adds the facts that a plan for `payload` needs.
    #[must_use]
    pub fn with(mut self, payload: Payload<'_>) -> Self {
        let (Payload::Command(command) | Payload::Fork(command)) = payload else { return self };
        if let Some(Ok(files)) = self.files.as_deref_mut()
            && let Root::Listed(root) = &mut files.root
        {
            Arc::make_mut(root).name_ids(command);
        }
        if matches!(payload, Payload::Command(_)) && command.terminal {
            let link = format!("/proc/self/fd/{}", command.stdio[0].unwrap_or(0));
            self.terminal = fs::read_link(link)
                .ok()
                .filter(|path| path.starts_with("/dev") && path.exists())
                .and_then(|path| CString::new(path.into_os_string().into_vec()).ok());
        }
        self
    }
}

/// The caller's hostname, which a new UTS namespace starts with.
fn hostname() -> Vec<u8> {
    nix::unistd::gethostname().map_or_else(|_| b"localhost".to_vec(), OsStringExt::into_vec)
}

/// The error for a limit that cannot be read: without it, the launch would not know which ones to lower.
fn refused_look(error: &std::io::Error) -> SpawnError {
    let hint = "A seccomp filter around the caller refuses prlimit64(2): let it allow the call";
    SpawnError { hint: Some(hint.into()), ..SpawnError::from_io(Step::Ulimits, error) }
}

/// Reads a regular file; `None` if there is none, if the caller may not read it, and for one that is larger than any
/// file of settings.
fn read_bytes(path: &str) -> Result<Option<Vec<u8>>, SpawnError> {
    const LARGEST: u64 = 64 << 20;
    let read = || {
        let opened = settings::try_open_regular(Path::new(path), 0)?;
        let Some((file, _)) = opened.filter(|(_, found)| found.len() <= LARGEST) else {
            return Ok(None);
        };
        let mut content = Vec::new();
        file.take(LARGEST).read_to_end(&mut content)?;
        Ok(Some(content))
    };
    read().or_else(|error: std::io::Error| match error.raw_os_error() {
        // ENXIO: a socket. ELOOP: a link that leads nowhere.
        Some(
            libc::ENOENT | libc::ENOTDIR | libc::EACCES | libc::EPERM | libc::ENXIO | libc::ELOOP,
        ) => Ok(None),
        _ => Err(SpawnError::from_io(Step::Prepare, &error).about(path)),
    })
}

/// Like [`read_bytes`], as text. Replaces invalid UTF-8, which comments and other users' rows may contain.
fn read(path: &str) -> Result<Option<String>, SpawnError> {
    let content = read_bytes(path)?;
    Ok(content.map(|content| String::from_utf8_lossy(&content).into_owned()))
}

/// The number of the last capability, found without /proc. If prctl(2) does not tell, it is too high: the launch then
/// fails at a capability that does not exist, and keeps none that it does not know.
fn last_capability() -> u8 {
    let is_unknown = |number: u8| {
        let capability = rustix::thread::CapabilitySet::from_bits_retain(1 << number);
        capability_is_in_bounding_set(capability) == Err(rustix::io::Errno::INVAL)
    };
    (1..64).find(|&number| is_unknown(number)).map_or(63, |number| number - 1)
}

fn memory() -> u64 {
    let found = rustix::system::sysinfo();
    found.totalram * u64::from(found.mem_unit)
}

/// The number of processors with counters of thermal throttling: all of them, if the first has some.
fn throttled_cpus() -> u16 {
    let path = |cpu: u16| format!("/sys/devices/system/cpu/cpu{cpu}/thermal_throttle");
    if !fs::exists(path(0)).unwrap_or(false) {
        return 0;
    }
    let possible = fs::read_to_string("/sys/devices/system/cpu/possible").unwrap_or_default();
    let last = possible.trim().rsplit(['-', ',']).next().and_then(|last| last.parse::<u16>().ok());
    last.map_or(1, |last| last.saturating_add(1))
}

/// The caller's home directories, from its account and its environment, except those that programs need.
fn homes(uid: u32) -> Vec<CString> {
    /// The home of the account of the last user id. Cached, because the lookup may ask a server.
    static KNOWN: Mutex<Option<(u32, Option<PathBuf>)>> = Mutex::new(None);
    let account =
        || nix::unistd::User::from_uid(uid.into()).ok().flatten().map(|account| account.dir);
    let account = match KNOWN.try_lock().as_deref_mut() {
        Ok(Some((of, home))) if *of == uid => home.clone(),
        Ok(known) => known.insert((uid, account())).1.clone(),
        // A forked child may have inherited the lock from a thread that held it.
        Err(_) => account(),
    };
    let environment = std::env::var_os("HOME").map(PathBuf::from);
    let mut homes: Vec<CString> = [account, environment]
        .into_iter()
        .flatten()
        .filter(|home| is_hideable(home))
        .filter_map(|home| CString::new(home.into_os_string().into_vec()).ok())
        .collect();
    homes.dedup();
    homes
}

/// Whether programs still run when this directory is hidden. Daemons have homes such as / and /bin.
fn is_hideable(home: &Path) -> bool {
    const NEEDED: [&str; 10] =
        ["bin", "dev", "etc", "lib", "lib32", "lib64", "proc", "sbin", "sys", "usr"];
    let mut parts = home.components();
    let first = (parts.next(), parts.next());
    let (Some(Component::RootDir), Some(Component::Normal(top))) = first else { return false };
    !NEEDED.iter().any(|needed| top == *needed) && !parts.any(|part| part == Component::ParentDir)
}

/// The permitted capabilities of this thread.
fn permitted() -> CapabilitySet {
    rustix::thread::capabilities(None)
        .map_or(CapabilitySet::EMPTY, |sets| CapabilitySet::from_bits(sets.permitted.bits()))
}

/// Whether a sysfs is mounted on /sys, and something on /sys/fs/cgroup: the device number of a mount point differs from
/// that of its parent directory.
fn sys_mounts() -> Result<(bool, bool), SpawnError> {
    let device = |path| Ok(look_at(path)?.map(|found| found.dev()));
    let sys = sys_is_mounted()
        .map_err(|error| SpawnError::from_io(Step::Prepare, &error).about("/sys"))?;
    let cgroup = device("/sys/fs/cgroup")?;
    Ok((sys, cgroup.is_some() && cgroup != device("/sys")?))
}

/// Looks at a path; `None` if nothing is there, or nothing in reach. Any other error must not leave a cover out.
fn look_at(path: &str) -> Result<Option<fs::Metadata>, SpawnError> {
    fs::metadata(path).map(Some).or_else(|error| match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR | libc::EACCES | libc::ELOOP) => Ok(None),
        _ => Err(SpawnError::from_io(Step::Prepare, &error).about(path)),
    })
}

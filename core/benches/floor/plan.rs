//! Which system calls the child makes, as a list: what is printed is what is run.

use std::ffi::{CString, OsStr};
use std::fmt::{self, Write as _};
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use crate::options::{Hosts, Map, Options};
use crate::root::{self, Rootfs};

/// How many results of calls (descriptors) the child can hold on to.
pub(crate) const SLOTS: usize = 3;

/// An argument of a [`Call`].
pub(crate) enum Argument {
    /// A number, flags or an address that is null.
    Number(usize),
    /// A string that ends in NUL.
    Text(CString),
    /// The address of these bytes.
    Bytes(Box<[u8]>),
    /// The address of a null-terminated list of strings.
    List { pointers: Box<[usize]>, strings: Vec<CString> },
    /// What an earlier call put there.
    Slot(usize),
}

impl Argument {
    /// The register's value.
    pub(crate) fn word(&self, slots: &[usize; SLOTS]) -> usize {
        match self {
            Self::Number(number) => *number,
            Self::Text(text) => text.as_ptr().addr(),
            Self::Bytes(bytes) => bytes.as_ptr().addr(),
            Self::List { pointers, .. } => pointers.as_ptr().addr(),
            Self::Slot(slot) => slots[*slot],
        }
    }
}

impl From<CString> for Argument {
    fn from(text: CString) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Argument {
    fn from(text: &str) -> Self {
        Self::Text(CString::new(text).expect("the floor's own strings hold no NUL"))
    }
}

impl From<usize> for Argument {
    fn from(number: usize) -> Self {
        Self::Number(number)
    }
}

impl From<i32> for Argument {
    fn from(number: i32) -> Self {
        Self::Number(number as usize)
    }
}

impl From<u64> for Argument {
    fn from(number: u64) -> Self {
        Self::Number(number as usize)
    }
}

impl From<Vec<CString>> for Argument {
    fn from(strings: Vec<CString>) -> Self {
        let pointers = strings.iter().map(|text| text.as_ptr().addr()).chain([0]).collect();
        Self::List { pointers, strings }
    }
}

impl fmt::Display for Argument {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) if *number > 4096 => write!(out, "{number:#x}"),
            Self::Number(number) => write!(out, "{number}"),
            Self::Text(text) => write!(out, "{text:?}"),
            Self::Bytes(bytes) => write!(out, "<{} bytes>", bytes.len()),
            Self::List { strings, .. } => write!(out, "<{} strings>", strings.len()),
            Self::Slot(slot) => write!(out, "fd{slot}"),
        }
    }
}

/// One system call of the child.
pub(crate) struct Call {
    /// The step it belongs to, as `--with` and `--without` name it.
    pub(crate) step: &'static str,
    pub(crate) name: &'static str,
    pub(crate) number: usize,
    pub(crate) arguments: Vec<Argument>,
    /// Where its result is kept.
    pub(crate) result: Option<usize>,
}

impl fmt::Display for Call {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:<10} {}(", self.step, self.name)?;
        for (index, argument) in self.arguments.iter().enumerate() {
            write!(out, "{}{argument}", if index == 0 { "" } else { ", " })?;
        }
        out.write_char(')')?;
        self.result.map_or(Ok(()), |slot| write!(out, " -> fd{slot}"))
    }
}

/// One entry of the child's list.
pub(crate) enum Action {
    Call(Call),
    /// Waits until the parent has written the id maps.
    WaitForMap,
    /// Sends the descriptor in slot 0 to the watchdog behind this socket.
    SendDescriptor(RawFd),
}

impl fmt::Display for Action {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(call) => call.fmt(out),
            Self::WaitForMap => write!(out, "{:<10} futex(map, FUTEX_WAIT)", "map"),
            Self::SendDescriptor(socket) => {
                write!(out, "{:<10} sendmsg({socket}, SCM_RIGHTS fd0, 0)", "watchdog")
            }
        }
    }
}

/// Everything that one iteration does.
pub(crate) struct Plan {
    /// The namespace flags of the clone.
    pub(crate) flags: i32,
    /// Whether the clone suspends the calling thread until exec.
    pub(crate) vfork: bool,
    /// What the parent writes to `/proc/PID/{uid_map,gid_map}`.
    pub(crate) maps: Option<[Vec<u8>; 2]>,
    /// What the child does.
    pub(crate) actions: Vec<Action>,
    /// The hosts file that was made beforehand, removed with the plan.
    _hosts: Option<HostsFile>,
    /// The root that was made beforehand, likewise.
    _root: Option<Rootfs>,
}

struct HostsFile(PathBuf);

impl HostsFile {
    fn new() -> Self {
        let name = format!("minidocker-floor-hosts-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, HOSTS).expect("a temporary directory that can be written");
        Self(path)
    }
}

impl Drop for HostsFile {
    fn drop(&mut self) {
        if let Err(why) = std::fs::remove_file(&self.0) {
            eprintln!("floor: cannot remove {}: {why}", self.0.display());
        }
    }
}

/// `call!(plan, step, mkdirat(AT_FDCWD, "path", 0o755) -> slot)`
macro_rules! call {
    ($plan:expr, $step:expr, $name:ident($($argument:expr),*) $(-> $slot:expr)?) => {
        $plan.push($crate::plan::Action::Call($crate::plan::Call {
            step: $step,
            name: stringify!($name).trim_start_matches("SYS_"),
            number: libc::$name as usize,
            arguments: vec![$($crate::plan::Argument::from($argument)),*],
            result: None$(.or(Some($slot)))?,
        }))
    };
}
pub(crate) use call;

pub(crate) const WRITE_ONLY: i32 = libc::O_WRONLY | libc::O_CLOEXEC;
pub(crate) const BIND: u64 = libc::MS_BIND;
const PRIVATE: u64 = libc::MS_REC | libc::MS_PRIVATE;
pub(crate) const HARDENED: u64 = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
pub(crate) const HOSTS: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost\n127.0.1.1\tbench\n";
pub(crate) const OPEN_TREE_CLONE: i32 = 1;
pub(crate) const AT_RECURSIVE: i32 = 0x8000;
pub(crate) const MOVE_MOUNT_F_EMPTY_PATH: i32 = 4;
const FSCONFIG_CMD_CREATE: i32 = 6;

impl Plan {
    /// Decides the calls for `options`, in the order in which the child makes them.
    pub(crate) fn new(options: &Options) -> Self {
        let mut actions = Vec::new();
        let mut maps = None;
        if options.has("signals") {
            // Whether each has a handler, which must not run in the memory of the caller.
            for signal in 1..=64 {
                call!(actions, "signals", SYS_rt_sigaction(signal, 0, 0, 8));
            }
        }
        if options.has("pid") {
            call!(actions, "session", SYS_setsid());
        }
        if options.has("user") {
            match options.map {
                Map::Child => write_own_map(&mut actions),
                Map::Parent => {
                    maps = Some(["uid_map", "gid_map"].map(own_map));
                    actions.push(Action::WaitForMap);
                }
            }
        }
        let hosts = (options.hosts == Hosts::Bind).then(HostsFile::new);
        let root = options.has("root").then(|| {
            let program = Path::new(OsStr::from_bytes(options.program.to_bytes()));
            Rootfs::new(program).expect("a temporary directory that can be written")
        });
        prepare(&mut actions, options, hosts.as_ref(), root.as_ref());
        if let Some(socket) = &options.watchdog {
            call!(actions, "watchdog", SYS_getpid() -> 0);
            call!(actions, "watchdog", SYS_pidfd_open(Argument::Slot(0), 0) -> 0);
            actions.push(Action::SendDescriptor(socket.as_raw_fd()));
            call!(actions, "watchdog", SYS_close(Argument::Slot(0)));
        }
        if root.is_some() {
            call!(actions, "cwd", SYS_chdir("/"));
        } else if let Ok(cwd) = std::env::current_dir() {
            let cwd = CString::new(cwd.into_os_string().into_vec()).expect("a path has no NUL");
            call!(actions, "cwd", SYS_chdir(cwd));
        }
        if options.has("descriptors") {
            let flags = libc::CLOSE_RANGE_CLOEXEC as i32;
            call!(actions, "descriptors", SYS_close_range(3, u64::from(u32::MAX), flags));
        }
        if options.has("privileges") {
            call!(actions, "privileges", SYS_prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
        }
        let mask = vec![0_u8; 8].into_boxed_slice();
        actions.push(Action::Call(Call {
            step: "mask",
            name: "rt_sigprocmask",
            number: libc::SYS_rt_sigprocmask as usize,
            arguments: vec![
                libc::SIG_SETMASK.into(),
                Argument::Bytes(mask),
                0_usize.into(),
                8_usize.into(),
            ],
            result: None,
        }));
        let environment: Vec<CString> = std::env::vars_os()
            .map(|(name, value)| {
                let line = [name.into_vec(), value.into_vec()].join(&b'=');
                CString::new(line).expect("the environment has no NUL")
            })
            .collect();
        let program = match root {
            Some(_) => CString::new(root::PROGRAM).expect("no NUL"),
            None => options.program.clone(),
        };
        call!(actions, "exec", SYS_execve(program.clone(), vec![program], environment));
        Self {
            flags: options.clone_flags(),
            vfork: options.vfork,
            maps,
            actions,
            _hosts: hosts,
            _root: root,
        }
    }
}

/// The caller's own id map: what "identity" means where the caller is in a user namespace itself.
fn own_map(name: &str) -> Vec<u8> {
    std::fs::read(format!("/proc/self/{name}")).expect("/proc is mounted")
}

fn write_file(actions: &mut Vec<Action>, step: &'static str, path: &str, content: &str) {
    call!(actions, step, SYS_openat(libc::AT_FDCWD, path, WRITE_ONLY) -> 0);
    call!(actions, step, SYS_write(Argument::Slot(0), content, content.len()));
    call!(actions, step, SYS_close(Argument::Slot(0)));
}

fn write_own_map(actions: &mut Vec<Action>) {
    // SAFETY: both only read the credentials of the calling process.
    #[expect(unsafe_code, reason = "std has no geteuid")]
    let (user, group) = (unsafe { libc::geteuid() }, unsafe { libc::getegid() });
    write_file(actions, "map", "/proc/self/setgroups", "deny");
    write_file(actions, "map", "/proc/self/uid_map", &format!("0 {user} 1\n"));
    write_file(actions, "map", "/proc/self/gid_map", &format!("0 {group} 1\n"));
}

/// What the child makes of its new namespaces.
fn prepare(
    actions: &mut Vec<Action>,
    options: &Options,
    hosts: Option<&HostsFile>,
    root: Option<&Rootfs>,
) {
    if options.has("mount") {
        call!(actions, "private", SYS_mount(0, "/", 0, PRIVATE, 0));
    }
    if options.has("uts") {
        call!(actions, "hostname", SYS_sethostname("bench", 5));
    }
    if options.has("loopback") {
        // struct ifreq: the name in 16 bytes, then the flags in a union of 24.
        let mut request = [0_u8; 40];
        request[..2].copy_from_slice(b"lo");
        request[16..18].copy_from_slice(&(libc::IFF_UP as u16).to_ne_bytes());
        let request = Argument::Bytes(Box::new(request));
        let datagram = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
        call!(actions, "loopback", SYS_socket(libc::AF_INET, datagram, 0) -> 0);
        call!(actions, "loopback", SYS_ioctl(Argument::Slot(0), libc::SIOCSIFFLAGS, request));
        call!(actions, "loopback", SYS_close(Argument::Slot(0)));
    }
    if let Some(root) = root {
        root::assemble(actions, options, root);
    } else {
        prepare_hosts_root(actions, options, hosts);
    }
    if options.has("ping") {
        let last = if matches!(options.map, Map::Parent) { 2_147_483_647 } else { 0 };
        let range = format!("0 {last}");
        write_file(actions, "ping", "/proc/sys/net/ipv4/ping_group_range", &range);
    }
}

/// What is mounted on the host's own root.
fn prepare_hosts_root(actions: &mut Vec<Action>, options: &Options, hosts: Option<&HostsFile>) {
    if options.has("proc") {
        call!(actions, "proc", SYS_mount("proc", "/proc", "proc", HARDENED, 0));
    }
    if options.has("sysfs") {
        sysfs(actions, options.has("cgroupfs"));
    }
    if options.has("shm") {
        let flags = libc::MS_NOSUID | libc::MS_NODEV;
        call!(actions, "shm", SYS_mount("tmpfs", "/dev/shm", "tmpfs", flags, "mode=1777"));
    }
    match options.hosts {
        Hosts::None => {}
        Hosts::Bind => {
            if let Some(HostsFile(path)) = hosts {
                let path = CString::new(path.as_os_str().as_bytes()).expect("a path has no NUL");
                call!(actions, "hosts", SYS_mount(path, "/etc/hosts", 0, BIND, 0));
            }
        }
        Hosts::Shm => {
            let path = "/dev/shm/hosts";
            let create = WRITE_ONLY | libc::O_CREAT | libc::O_EXCL;
            call!(actions, "hosts", SYS_openat(libc::AT_FDCWD, path, create, 0o644) -> 0);
            call!(actions, "hosts", SYS_write(Argument::Slot(0), HOSTS, HOSTS.len()));
            call!(actions, "hosts", SYS_close(Argument::Slot(0)));
            call!(actions, "hosts", SYS_mount(path, "/etc/hosts", 0, BIND, 0));
            // On a file that was unlinked no container inside this one could mount its own.
            let flags = libc::MS_NOSUID | libc::MS_NODEV;
            call!(actions, "hosts", SYS_mount("tmpfs", "/dev/shm", "tmpfs", flags, "mode=1777"));
        }
        Hosts::Detached => detached_hosts(actions),
    }
}

/// A fresh sysfs covers the control groups of the old one; they can be carried over.
fn sysfs(actions: &mut Vec<Action>, keep_cgroups: bool) {
    let tree = libc::AT_SYMLINK_NOFOLLOW | AT_RECURSIVE | OPEN_TREE_CLONE | libc::O_CLOEXEC;
    if keep_cgroups {
        let path = "/sys/fs/cgroup";
        call!(actions, "cgroupfs", SYS_open_tree(libc::AT_FDCWD, path, tree) -> 1);
    }
    call!(actions, "sysfs", SYS_mount("sysfs", "/sys", "sysfs", HARDENED, 0));
    if keep_cgroups {
        attach(actions, "cgroupfs", "/sys/fs/cgroup");
        call!(actions, "cgroupfs", SYS_close(Argument::Slot(1)));
    }
}

/// Attaches the detached mount in slot 1.
fn attach(actions: &mut Vec<Action>, step: &'static str, target: &str) {
    let (from, flags) = (Argument::Slot(1), MOVE_MOUNT_F_EMPTY_PATH);
    call!(actions, step, SYS_move_mount(from, "", libc::AT_FDCWD, target, flags));
}

/// The hosts file on a tmpfs that is mounted nowhere.
fn detached_hosts(actions: &mut Vec<Action>) {
    let step = "hosts";
    let create = WRITE_ONLY | libc::O_CREAT;
    let clone = OPEN_TREE_CLONE | libc::O_CLOEXEC;
    call!(actions, step, SYS_fsopen("tmpfs", 1) -> 0);
    call!(actions, step, SYS_fsconfig(Argument::Slot(0), FSCONFIG_CMD_CREATE, 0, 0, 0));
    call!(actions, step, SYS_fsmount(Argument::Slot(0), 1, 0) -> 1);
    call!(actions, step, SYS_close(Argument::Slot(0)));
    call!(actions, step, SYS_openat(Argument::Slot(1), "hosts", create, 0o644) -> 0);
    call!(actions, step, SYS_write(Argument::Slot(0), HOSTS, HOSTS.len()));
    call!(actions, step, SYS_close(Argument::Slot(0)));
    call!(actions, step, SYS_open_tree(Argument::Slot(1), "hosts", clone) -> 0);
    call!(actions, step, SYS_close(Argument::Slot(1)));
    let (from, flags) = (Argument::Slot(0), MOVE_MOUNT_F_EMPTY_PATH);
    call!(actions, step, SYS_move_mount(from, "", libc::AT_FDCWD, "/etc/hosts", flags));
    call!(actions, step, SYS_close(Argument::Slot(0)));
}

//! Facts about the caller and its system, gathered once before a plan is made. A plan is a pure
//! function of the specification and these, so it is tested without privilege.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::sync::Mutex;

use crate::error::{SpawnError, SpecError};
use crate::files::{Around, Files};
use crate::namespaces::Kind;
use crate::plan::Step;
use crate::spec::{IdMap, IdRow, Network, Payload, Spec};

/// What a plan needs to know.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// The caller's effective user id.
    pub uid: u32,
    /// The caller's effective group id.
    pub gid: u32,
    /// Rows of the caller's own `/proc/self/uid_map`; only read for a root caller.
    pub uid_rows: Vec<IdRow>,
    /// Rows of the caller's own `/proc/self/gid_map`; only read for a root caller.
    pub gid_rows: Vec<IdRow>,
    /// Whether the caller's own user namespace forbids setgroups(2); only read for a root caller that
    /// may enter another.
    pub setgroups_denied: bool,
    /// The caller's subordinate user ids, (first, count); only read for [`IdMap::Auto`].
    pub subordinate_uids: Vec<(u32, u32)>,
    /// The caller's subordinate group ids.
    pub subordinate_gids: Vec<(u32, u32)>,
    /// The content of /etc/hosts, where there is one and a hostname is to be set.
    pub hosts: Option<Vec<u8>>,
    /// Whether /dev/shm is a directory.
    pub shm: bool,
    /// Whether /dev/mqueue is a directory.
    pub mqueue: bool,
    /// Whether something is mounted on /sys.
    pub sys: bool,
    /// Whether something is mounted on /sys/fs/cgroup.
    pub sys_cgroup: bool,
    /// Whether other processes of the same user may look into the caller (`PR_GET_DUMPABLE`).
    pub dumpable: bool,
    /// The caller's process id.
    pub pid: u32,
    /// The caller's working directory; `None` where it was removed.
    pub working_directory: Option<CString>,
    /// The terminal that the command's standard input is, by its path; only for a root of its own.
    pub terminal: Option<CString>,
    /// What the container's files are made of, or what is wrong with them; `None` where they are the
    /// host's own.
    pub(crate) files: Option<Box<Result<Files, SpecError>>>,
}

impl Host {
    /// Gathers what `spec` makes necessary.
    ///
    /// # Errors
    ///
    /// [`SpawnError`] with [`Step::Prepare`] where a file is there and cannot be read, for want of a
    /// descriptor for example: a plan that took it for absent would make another container.
    pub fn gather(spec: &Spec) -> Result<Self, SpawnError> {
        let uid = nix::unistd::geteuid().as_raw();
        let gid = nix::unistd::getegid().as_raw();
        let namespaces = spec.namespaces;
        let joined = matches!(spec.network, Some(Network::Join(_)));
        let own_mounts = namespaces.contains(Kind::Mount);
        let own_rows = namespaces.contains(Kind::User)
            && uid == 0
            && (spec.uid_map == IdMap::Caller || spec.gid_map == IdMap::Caller);
        let (uid_rows, gid_rows) = if own_rows { own_maps()? } else { Default::default() };
        let enters = joined || !namespaces.contains(Kind::User);
        let setgroups_denied = uid == 0
            && enters
            && read("/proc/self/setgroups")?.is_some_and(|text| text.trim_end() == "deny");
        let subordinate = |map: &IdMap, file| {
            if *map == IdMap::Auto { subordinate_ids(file, uid) } else { Ok(Vec::new()) }
        };
        let (sys, sys_cgroup) = if own_mounts && (joined || namespaces.contains(Kind::Net)) {
            sys_mounts()
        } else {
            (false, false)
        };
        let own_ipc = own_mounts && namespaces.contains(Kind::Ipc);
        let looks_at_shm = own_ipc || spec.rootfs.is_some();
        let is_directory = |path| fs::metadata(path).is_ok_and(|found| found.is_dir());
        let named = own_mounts && spec.hostname.is_some();
        let shm = looks_at_shm && is_directory("/dev/shm");
        let mqueue = looks_at_shm && is_directory("/dev/mqueue");
        let files = Files::wanted(spec).then(|| {
            let hostname = spec.hostname.clone().unwrap_or_else(hostname);
            let (shm, mqueue) = (shm && own_ipc, mqueue && own_ipc);
            let around = Around { sys, shm, mqueue, hostname: &hostname };
            Box::new(Files::gather(spec, &around))
        });
        Ok(Self {
            uid,
            gid,
            uid_rows,
            gid_rows,
            setgroups_denied,
            subordinate_uids: subordinate(&spec.uid_map, "/etc/subuid")?,
            subordinate_gids: subordinate(&spec.gid_map, "/etc/subgid")?,
            hosts: if named { read_bytes("/etc/hosts")? } else { None },
            shm,
            mqueue,
            sys,
            sys_cgroup,
            pid: std::process::id(),
            dumpable: nix::sys::prctl::get_dumpable().unwrap_or(false),
            working_directory: std::env::current_dir()
                .ok()
                .and_then(|path| CString::new(path.into_os_string().into_vec()).ok()),
            terminal: None,
            files,
        })
    }

    /// Also looks at what `payload` makes necessary.
    #[must_use]
    pub fn with(mut self, payload: Payload<'_>) -> Self {
        if let Payload::Command(command) = payload
            && command.terminal
        {
            let link = format!("/proc/self/fd/{}", command.stdio[0].unwrap_or(0));
            self.terminal = fs::read_link(link)
                .ok()
                .filter(|path| path.starts_with("/dev") && path.exists())
                .and_then(|path| CString::new(path.into_os_string().into_vec()).ok());
        }
        self
    }
}

/// What a new UTS namespace begins with.
fn hostname() -> Vec<u8> {
    nix::unistd::gethostname().map_or_else(|_| b"localhost".to_vec(), OsStringExt::into_vec)
}

/// The content of a file; `None` where there is none for this caller.
fn read_bytes(path: &str) -> Result<Option<Vec<u8>>, SpawnError> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) => match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR | libc::EACCES | libc::EPERM) => Ok(None),
            _ => Err(SpawnError::from_io(Step::Prepare, &error).about(path)),
        },
    }
}

/// The same as text. What is no UTF-8, in a comment or another user's row, is of no account.
fn read(path: &str) -> Result<Option<String>, SpawnError> {
    let content = read_bytes(path)?;
    Ok(content.map(|content| String::from_utf8_lossy(&content).into_owned()))
}

/// The rows of the caller's own user and group map. A map is written once for a user namespace, so
/// they are read once for each that the caller is in: opening them is slow, and on the path of every
/// launch by root.
fn own_maps() -> Result<(Vec<IdRow>, Vec<IdRow>), SpawnError> {
    /// The user namespace's inode, and the rows.
    type Known = (u64, Vec<IdRow>, Vec<IdRow>);
    static KNOWN: Mutex<Option<Known>> = Mutex::new(None);
    let namespace = fs::metadata("/proc/self/ns/user").map(|found| found.ino()).ok();
    // A forked child may have inherited the lock from a thread that held it: nobody waits for it.
    let known = KNOWN.try_lock();
    if let (Some(namespace), Ok(Some((of, uids, gids)))) = (namespace, known.as_deref())
        && *of == namespace
    {
        return Ok((uids.clone(), gids.clone()));
    }
    let rows = |file| Ok(read(file)?.map_or_else(Vec::new, |text| parse_rows(&text)));
    let (uids, gids) = (rows("/proc/self/uid_map")?, rows("/proc/self/gid_map")?);
    if let (Some(namespace), Ok(mut known), false) = (namespace, known, uids.is_empty()) {
        *known = Some((namespace, uids.clone(), gids.clone()));
    }
    Ok((uids, gids))
}

/// Whether something is mounted on /sys, and on /sys/fs/cgroup below it: a mount point has another
/// device number than the directory that it is in.
fn sys_mounts() -> (bool, bool) {
    let device = |path| fs::metadata(path).ok().map(|found| found.dev());
    let sys = device("/sys");
    let cgroup = device("/sys/fs/cgroup");
    (sys.is_some() && sys != device("/"), cgroup.is_some() && cgroup != sys)
}

/// The rows of a `uid_map` or `gid_map` file.
#[must_use]
pub fn parse_rows(text: &str) -> Vec<IdRow> {
    text.lines()
        .filter_map(|line| {
            let mut numbers = line.split_whitespace().map(str::parse);
            let mut next = || numbers.next()?.ok();
            Some(IdRow { inside: next()?, outside: next()?, count: next()? })
        })
        .collect()
}

/// The ranges that subuid(5) or subgid(5) give to a user, by name or by number.
fn subordinate_ids(file: &str, uid: u32) -> Result<Vec<(u32, u32)>, SpawnError> {
    let Some(text) = read(file)? else { return Ok(Vec::new()) };
    let user = nix::unistd::User::from_uid(uid.into())
        .map_err(|errno| SpawnError::new(Step::Prepare, errno as i32).about("/etc/passwd"))?;
    let name = user.map(|user| user.name);
    let number = uid.to_string();
    let row = |line: &str| {
        let mut fields = line.split(':');
        let owner = fields.next()?;
        let first = fields.next()?.parse().ok()?;
        let count = fields.next()?.trim().parse().ok()?;
        (owner == number || Some(owner) == name.as_deref()).then_some((first, count))
    };
    Ok(text.lines().filter_map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_as_the_kernel_pads_them() {
        let rows =
            parse_rows("         0       1000          1\n         1     100000      65536\n");
        assert_eq!(
            rows,
            [
                IdRow { inside: 0, outside: 1000, count: 1 },
                IdRow { inside: 1, outside: 100_000, count: 65_536 }
            ]
        );
    }
}

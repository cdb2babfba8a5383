//! A root of its own: the same files as `minidocker.run(…, rootfs=…)` shows, by the shortest calls.
//!
//! `/..` is what is mounted on the root directory: the new root, until it is entered. In a root that the
//! benchmark has made itself no link leads astray, so paths do instead of descriptors.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::options::Options;
use crate::plan::{
    AT_RECURSIVE, Action, Argument, BIND, HARDENED, HOSTS, MOVE_MOUNT_F_EMPTY_PATH,
    OPEN_TREE_CLONE, WRITE_ONLY, call,
};

/// Where the program is in the root.
pub(crate) const PROGRAM: &str = "/noop";

/// A directory with a root file system of one program, removed when dropped.
pub(crate) struct Rootfs(PathBuf);

impl Rootfs {
    pub(crate) fn new(program: &Path) -> io::Result<Self> {
        let name = format!("minidocker-floor-root-{}", std::process::id());
        let root = Self(std::env::temp_dir().join(name));
        for directory in ["dev", "etc", "proc", "sys", "tmp", "usr", "var"] {
            fs::create_dir_all(root.0.join(directory))?;
        }
        for file in ["etc/hosts", "etc/hostname"] {
            fs::write(root.0.join(file), "")?;
        }
        let copy = root.0.join(&PROGRAM[1..]);
        fs::copy(program, &copy)?;
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
        Ok(root)
    }
}

impl Drop for Rootfs {
    fn drop(&mut self) {
        if let Err(why) = fs::remove_dir_all(&self.0) {
            eprintln!("floor: cannot remove {}: {why}", self.0.display());
        }
    }
}

/// The calls that put the root together.
pub(crate) fn assemble(actions: &mut Vec<Action>, options: &Options, root: &Rootfs) {
    let path = CString::new(root.0.as_os_str().as_bytes()).expect("a path has no NUL");
    let clone = OPEN_TREE_CLONE | AT_RECURSIVE | libc::O_CLOEXEC;
    call!(actions, "binds", SYS_open_tree(libc::AT_FDCWD, "/usr", clone) -> 0);
    // struct mount_attr: what is set, cleared, the propagation and a descriptor.
    let mut attributes = [0_u8; 32];
    attributes[0] = libc::MOUNT_ATTR_RDONLY as u8;
    let (empty, attributes) =
        (libc::AT_EMPTY_PATH | AT_RECURSIVE, Argument::Bytes(Box::new(attributes)));
    call!(actions, "binds", SYS_mount_setattr(Argument::Slot(0), "", empty, attributes, 32));
    call!(actions, "root", SYS_open_tree(libc::AT_FDCWD, path, clone) -> 1);
    let (from, flags) = (Argument::Slot(1), MOVE_MOUNT_F_EMPTY_PATH);
    call!(actions, "root", SYS_move_mount(from, "", libc::AT_FDCWD, "/", flags));
    devices(actions);
    sys(actions, options);
    call!(actions, "proc", SYS_mount("proc", "/../proc", "proc", HARDENED, 0));
    for (source, target) in
        [("/../dev/pts/0", "/../etc/hosts"), ("/../dev/pts/1", "/../etc/hostname")]
    {
        call!(actions, "etc", SYS_mount(source, target, 0, BIND, 0));
    }
    let flags = libc::MS_NOSUID | libc::MS_NODEV;
    call!(
        actions,
        "dev",
        SYS_mount("devpts", "/../dev/pts", "devpts", flags, "ptmxmode=666,mode=620")
    );
    call!(actions, "binds", SYS_mount("tmpfs", "/../tmp", "tmpfs", HARDENED, "mode=1777"));
    let from = Argument::Slot(0);
    let attach = MOVE_MOUNT_F_EMPTY_PATH;
    call!(actions, "binds", SYS_move_mount(from, "", libc::AT_FDCWD, "/../usr", attach));
    call!(actions, "binds", SYS_mount("/var", "/../var", 0, BIND | libc::MS_REC, 0));
    call!(actions, "pivot", SYS_fchdir(Argument::Slot(1)));
    call!(actions, "pivot", SYS_pivot_root(".", "."));
    call!(actions, "pivot", SYS_umount2("/", libc::MNT_DETACH));
}

fn devices(actions: &mut Vec<Action>) {
    let (step, cwd) = ("dev", libc::AT_FDCWD);
    let flags = libc::MS_NOSUID | libc::MS_NOEXEC;
    call!(actions, step, SYS_mount("tmpfs", "/../dev", "tmpfs", flags, "mode=755"));
    for name in ["null", "zero", "full", "random", "urandom", "tty"] {
        let (source, target) = (format!("/dev/{name}"), format!("/../dev/{name}"));
        let (source, target) = (source.as_str(), target.as_str());
        call!(actions, step, SYS_mknodat(cwd, target, libc::S_IFREG as usize | 0o644, 0));
        call!(actions, step, SYS_mount(source, target, 0, BIND, 0));
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        call!(actions, step, SYS_symlinkat(target, cwd, format!("/../dev/{name}").as_str()));
    }
    for directory in ["pts", "shm", "mqueue"] {
        call!(actions, step, SYS_mkdirat(cwd, format!("/../dev/{directory}").as_str(), 0o755));
    }
    let create = WRITE_ONLY | libc::O_CREAT | libc::O_EXCL;
    for (path, content) in [("/../dev/pts/0", HOSTS), ("/../dev/pts/1", "bench\n")] {
        call!(actions, "etc", SYS_openat(cwd, path, create, 0o644) -> 2);
        call!(actions, "etc", SYS_write(Argument::Slot(2), content, content.len()));
        call!(actions, "etc", SYS_close(Argument::Slot(2)));
    }
    call!(actions, step, SYS_mount("tmpfs", "/../dev/shm", "tmpfs", HARDENED, "mode=1777"));
    call!(actions, step, SYS_mount("mqueue", "/../dev/mqueue", "mqueue", HARDENED, 0));
}

fn sys(actions: &mut Vec<Action>, options: &Options) {
    let cgroups = "/sys/fs/cgroup";
    let keep = options.has("cgroupfs");
    if keep {
        let clone = OPEN_TREE_CLONE | AT_RECURSIVE | libc::O_CLOEXEC;
        call!(actions, "cgroupfs", SYS_open_tree(libc::AT_FDCWD, cgroups, clone) -> 2);
    }
    call!(actions, "sysfs", SYS_mount("sysfs", "/../sys", "sysfs", HARDENED, 0));
    if keep {
        let (from, flags) = (Argument::Slot(2), MOVE_MOUNT_F_EMPTY_PATH);
        let target = "/../sys/fs/cgroup";
        call!(actions, "cgroupfs", SYS_move_mount(from, "", libc::AT_FDCWD, target, flags));
        call!(actions, "cgroupfs", SYS_close(Argument::Slot(2)));
    }
}

//! The files that a profile masks: devices, private and hidden directories, masked and read-only paths.
//!
//! The paths are fixed. In the host's own root only the host can have put a link there. In another root they are
//! relative to descriptors of the mounted file systems. A path that does not exist is left out. Any other
//! failure ends the launch, so the container never sees a path that the profile hides.

use std::ffi::{CStr, CString};

use super::call::{Arg, at_cwd, named};
use super::kernel_filesystems::{KernelFilesystems, devpts_data};
use super::mount_calls::{mount, set_attributes};
use super::number;
use super::sequence::{Appended, Sequence};
use super::setup::NamespaceSetup;
use crate::error::{Reason, Remedy, SpecError};
use crate::host::Host;
use crate::host::files::DEVICES;
use crate::spec::namespaces::{Kind, NamespaceOptions};
use crate::spec::profile::{Confinement, Profile, per_cpu_masked_paths};
use crate::spec::{Overlay, Spec};
use crate::step::Step;

/// Links that programs rely on.
const LINKS: [(&CStr, &CStr); 5] = [
    (c"/proc/self/fd", c"/dev/fd"),
    (c"/proc/self/fd/0", c"/dev/stdin"),
    (c"/proc/self/fd/1", c"/dev/stdout"),
    (c"/proc/self/fd/2", c"/dev/stderr"),
    (c"pts/ptmx", c"/dev/ptmx"),
];

/// The directory of the covers, until the new /dev hides it.
const COVERS: &CStr = c"/dev";

const EMPTY_DIRECTORY: &CStr = c"/dev/directory";

const EMPTY_FILE: &CStr = c"/dev/file";

const SHARED_MEMORY: &CStr = c"/dev/shm";

/// Sets the attributes of the root before anything is mounted on it.
pub(super) fn restrict_root(sequence: &mut Sequence, spec: &Spec, place: (Arg, &CStr)) {
    // Without this a device file outside of /dev would open, too.
    let mut set = libc::MOUNT_ATTR_NODEV;
    let view = spec.confine.profile.confinement().view;
    if view.is_some() && spec.overlay == Overlay::None {
        set |= libc::MOUNT_ATTR_RDONLY;
    }
    set_attributes(sequence, Step::ReadOnly, place, (set, 0), true);
}

/// Covers the host's root: a /dev with only the devices that every user may use, and the private and hidden
/// paths.
pub(super) fn cover(sequence: &mut Sequence, setup: &NamespaceSetup<'_>) {
    let Some(confinement) = setup.masked() else { return };
    let host = setup.host;
    // The old /dev becomes the working directory, so that its devices can be named while it is covered.
    let old = sequence.cell();
    let path = sequence.text(c"/dev");
    let args = [at_cwd(), path, named!(O_PATH | O_DIRECTORY | O_CLOEXEC), Arg::Int(0)];
    sequence.call(Step::Dev, number::OPENAT, args).about(c"/dev").into(old);
    sequence.call(Step::Dev, number::FCHDIR, [old.into()]).note("the host's devices");
    sequence.call(Step::Dev, number::CLOSE, [old.into()]);
    make_covers(sequence);
    mask(sequence, confinement, host, KernelFilesystems::Paths);
    devices(sequence, setup);
}

/// Covers the paths in /proc and /sys that reveal the host. Call [`make_covers`] before it.
pub(super) fn mask(
    sequence: &mut Sequence,
    confinement: &Confinement,
    host: &Host,
    kernel_fs: KernelFilesystems,
) {
    let throttled = per_cpu_masked_paths(host.kernel.throttled_cpus.into());
    let masked = paths(confinement.masked_paths).map(|path| (path, [EMPTY_FILE, EMPTY_DIRECTORY]));
    let masked =
        masked.chain(throttled.map(|path| (c_string(&path), [EMPTY_DIRECTORY, EMPTY_FILE])));
    for_each_place(sequence, Step::Hide, kernel_fs, masked, |sequence, name, covers| {
        hide(sequence, name, covers);
    });
}

/// Makes paths read-only, after the last write to them.
pub(super) fn read_only_paths(
    sequence: &mut Sequence,
    setup: &NamespaceSetup<'_>,
    kernel_fs: KernelFilesystems,
) {
    const STEP: Step = Step::ReadOnly;
    let Some(confinement) = setup.masked() else { return };
    let set = (libc::MOUNT_ATTR_RDONLY, 0);
    let places = paths(confinement.read_only_paths).map(|path| (path, ()));
    for_each_place(sequence, STEP, kernel_fs, places, |sequence, name, ()| {
        let flags = named!(MS_BIND | MS_REC);
        mount(sequence, STEP, Some(name), name, None, flags, None).unless_absent();
        set_attributes(sequence, STEP, (at_cwd(), name), set, true).unless_absent();
    });
    let sys = match kernel_fs {
        KernelFilesystems::Paths => setup.host.sys.then(|| (at_cwd(), c"/sys")),
        KernelFilesystems::Descriptors { sys, .. } => sys.map(|sys| (sys.into(), c"")),
    };
    if let Some(place) = sys {
        set_attributes(sequence, STEP, place, set, true)
            .note("root may write its files even without a capability");
    }
    if confinement.read_only_shared_proc && !setup.new.contains(Kind::Pid) {
        let proc = match kernel_fs {
            KernelFilesystems::Paths => (at_cwd(), c"/proc"),
            KernelFilesystems::Descriptors { proc, .. } => (proc.into(), c""),
        };
        set_attributes(sequence, STEP, proc, set, true)
            .note("it has files that change processes outside");
    }
}

/// Calls `act` with each path: as it is, or relative to /proc or /sys, which becomes the working directory.
fn for_each_place<T>(
    sequence: &mut Sequence,
    step: Step,
    kernel_fs: KernelFilesystems,
    places: impl Iterator<Item = (CString, T)>,
    act: impl Fn(&mut Sequence, &CStr, T),
) {
    let KernelFilesystems::Descriptors { proc, sys } = kernel_fs else {
        for (path, what) in places {
            act(sequence, &path, what);
        }
        return;
    };
    let mut current = None;
    for (path, what) in places {
        let name = |top: &str| path.to_bytes_with_nul().strip_prefix(top.as_bytes());
        let (directory, name) = match (name("/proc/"), name("/sys/"), sys) {
            (Some(name), ..) => (proc, name),
            (_, Some(name), Some(sys)) => (sys, name),
            _ => continue,
        };
        if current != Some(directory) {
            sequence.call(step, number::FCHDIR, [directory.into()]);
            current = Some(directory);
        }
        act(sequence, CStr::from_bytes_until_nul(name).unwrap_or_default(), what);
    }
}

/// Makes the covers: an empty directory and an empty file, in one file system, which are bound over each hidden
/// path.
pub(super) fn make_covers(sequence: &mut Sequence) {
    const STEP: Step = Step::Hide;
    let umask = sequence.cell();
    let flags = named!(MS_NOSUID | MS_NODEV | MS_NOEXEC);
    tmpfs(sequence, STEP, COVERS, flags, c"mode=755,size=4k,nr_inodes=3");
    sequence.call(STEP, number::UMASK, [Arg::mode(0)]).into(umask);
    make_directory(sequence, STEP, EMPTY_DIRECTORY, 0o555);
    make_file(sequence, STEP, EMPTY_FILE, 0o444);
    sequence.call(STEP, number::UMASK, [umask.into()]);
    set_attributes(sequence, STEP, (at_cwd(), COVERS), (libc::MOUNT_ATTR_RDONLY, 0), false)
        .note("binds of it are read-only, too");
}

fn paths(paths: &[&str]) -> impl Iterator<Item = CString> {
    paths.iter().map(|path| c_string(path))
}

/// Paths of profiles contain no NUL.
fn c_string(path: &str) -> CString {
    CString::new(path).unwrap_or_default()
}

/// Binds the first of two covers over a path, or the second if the path is of the other type.
fn hide(sequence: &mut Sequence, path: &CStr, covers: [&CStr; 2]) {
    for (cover, skip) in covers.into_iter().zip([1, 0]) {
        mount(sequence, Step::Hide, Some(cover), path, None, named!(MS_BIND), None)
            .unless_absent()
            .skip(skip);
    }
}

fn tmpfs<'a>(
    sequence: &'a mut Sequence,
    step: Step,
    target: &CStr,
    flags: Arg,
    data: &CStr,
) -> Appended<'a> {
    mount(sequence, step, Some(c"tmpfs"), target, Some(c"tmpfs"), flags, Some(data))
}

/// A new /dev over the old one, which is the working directory.
fn devices(sequence: &mut Sequence, setup: &NamespaceSetup<'_>) {
    const STEP: Step = Step::Dev;
    // Each device is a separate mount. open(2) fails for every other device file in /dev.
    let flags = named!(MS_NOSUID | MS_NODEV | MS_NOEXEC);
    tmpfs(sequence, STEP, c"/dev", flags, c"mode=755,size=64k");
    for (name, path) in DEVICES {
        make_file(sequence, STEP, path, 0o644);
        mount(sequence, STEP, Some(name), path, None, named!(MS_BIND), None);
        let clear = (0, libc::MOUNT_ATTR_NODEV);
        set_attributes(sequence, STEP, (at_cwd(), path), clear, false);
    }
    for (target, path) in LINKS {
        let args = [sequence.text(target), at_cwd(), sequence.text(path)];
        sequence.call(STEP, number::SYMLINKAT, args).about(path);
    }
    make_directory(sequence, STEP, c"/dev/pts", 0o755);
    let data = devpts_data(setup.spec, setup.new, setup.host, &|_| false);
    let (kind, flags) = (Some(c"devpts"), named!(MS_NOSUID | MS_NOEXEC));
    mount(sequence, STEP, kind, c"/dev/pts", kind, flags, Some(&c_string(&data)));
    shared_memory(sequence, setup);
}

/// /dev/shm and /dev/mqueue: the container's own, or the caller's if the IPC namespace is shared.
fn shared_memory(sequence: &mut Sequence, setup: &NamespaceSetup<'_>) {
    const STEP: Step = Step::MountShm;
    let flags = || named!(MS_NOSUID | MS_NODEV | MS_NOEXEC);
    for (name, path, kind, data) in [
        (c"shm", SHARED_MEMORY, c"tmpfs", Some(c"mode=1777")),
        (c"mqueue", c"/dev/mqueue", c"mqueue", None),
    ] {
        make_directory(sequence, STEP, path, 0o755);
        if setup.new.contains(Kind::Ipc) {
            mount(sequence, STEP, Some(kind), path, Some(kind), flags(), data);
        } else {
            let flags = named!(MS_BIND | MS_REC);
            mount(sequence, STEP, Some(name), path, None, flags, None).unless_absent();
        }
    }
}

fn make_directory(sequence: &mut Sequence, step: Step, path: &CStr, mode: u32) {
    let text = sequence.text(path);
    sequence.call(step, number::MKDIRAT, [at_cwd(), text, Arg::mode(mode)]).about(path);
}

fn make_file(sequence: &mut Sequence, step: Step, path: &CStr, mode: u32) {
    let text = sequence.text(path);
    let mode = Arg::mode(libc::S_IFREG | mode);
    sequence.call(step, number::MKNODAT, [at_cwd(), text, mode, Arg::Int(0)]).about(path);
}

/// Refuses a profile that covers files if the mount namespace is the caller's.
pub(super) fn check(profile: Profile, new: NamespaceOptions) -> Result<(), SpecError> {
    if !profile.confinement().covers_files() || new.contains(Kind::Mount) {
        return Ok(());
    }
    Err(SpecError::of_text(
        "profile",
        profile.name(),
        Reason::shared_namespace(
            "it covers paths of the container, but the mount namespace is shared with the caller",
        ),
        Remedy::with("{}", Kind::Mount.made_new()),
    ))
}

//! What a profile leaves of the host's files: devices, private and hidden directories, masked and
//! read-only paths.
//!
//! The paths are fixed ones, and the root that they are in is the host's own, so that nobody but the
//! host can have put a link there. A path that does not exist is left out, and whatever else goes wrong
//! ends the launch: what was to be hidden is never seen.

use std::ffi::{CStr, CString};

use super::call::{Arg, Call, Sequence};
use super::isolation::{at_cwd, mount, named};
use super::{Step, number};
use crate::error::SpecError;
use crate::host::Host;
use crate::namespaces::{Kind, NamespaceOptions};
use crate::profile::{Confinement, Profile, per_cpu_masked_paths};

/// The host's devices that everybody may use.
const DEVICES: [(&CStr, &CStr); 6] = [
    (c"null", c"/dev/null"),
    (c"zero", c"/dev/zero"),
    (c"full", c"/dev/full"),
    (c"random", c"/dev/random"),
    (c"urandom", c"/dev/urandom"),
    (c"tty", c"/dev/tty"),
];

/// Links that programs rely on.
const LINKS: [(&CStr, &CStr); 5] = [
    (c"/proc/self/fd", c"/dev/fd"),
    (c"/proc/self/fd/0", c"/dev/stdin"),
    (c"/proc/self/fd/1", c"/dev/stdout"),
    (c"/proc/self/fd/2", c"/dev/stderr"),
    (c"pts/ptmx", c"/dev/ptmx"),
];

/// Where what hides lies, until the new /dev covers it.
const COVERS: &CStr = c"/dev";
const EMPTY_DIRECTORY: &CStr = c"/dev/directory";
const EMPTY_FILE: &CStr = c"/dev/file";
const SHARED_MEMORY: &CStr = c"/dev/shm";

/// What the host's root gets before anything is mounted on it.
pub(super) fn restrict_root(sequence: &mut Sequence, confinement: &Confinement) {
    // A device file anywhere on the host is as good as one in /dev to who owns it.
    let mut set = libc::MOUNT_ATTR_NODEV;
    if confinement.view.is_some_and(|view| view.read_only) {
        set |= libc::MOUNT_ATTR_RDONLY;
    }
    set_attributes(sequence, Step::ReadOnly, c"/", (set, 0), true);
}

/// A /dev with nothing of the host's but what everybody may use, and what of the host's files is private
/// or hidden.
pub(super) fn cover(
    sequence: &mut Sequence,
    confinement: &Confinement,
    new: NamespaceOptions,
    host: &Host,
) {
    // The old /dev becomes the working directory, so that its devices have names while it is covered.
    let old = sequence.cell();
    let path = sequence.text(c"/dev");
    let args = [at_cwd(), path, named!(O_PATH | O_DIRECTORY | O_CLOEXEC), Arg::Int(0)];
    sequence.call(Step::Dev, number::OPENAT, args).about(c"/dev").into(old);
    sequence.call(Step::Dev, number::FCHDIR, [old.into()]).note("the host's devices");
    sequence.call(Step::Dev, number::CLOSE, [old.into()]);
    make_covers(sequence);
    if let Some(view) = confinement.view {
        for path in paths(view.private).filter(|path| path.as_c_str() != SHARED_MEMORY) {
            let flags = named!(MS_NOSUID | MS_NODEV);
            tmpfs(sequence, Step::Hide, &path, flags, c"mode=1777").unless_absent();
        }
        let homes = if view.hide_home { &host.homes[..] } else { &[] };
        for path in paths(view.hidden).chain(homes.iter().cloned()) {
            hide(sequence, &path, [EMPTY_DIRECTORY, EMPTY_FILE]);
        }
        for path in paths(view.hidden_files) {
            hide(sequence, &path, [EMPTY_FILE, EMPTY_DIRECTORY]);
        }
    }
    for path in paths(confinement.masked_paths) {
        hide(sequence, &path, [EMPTY_FILE, EMPTY_DIRECTORY]);
    }
    for path in per_cpu_masked_paths(host.kernel.throttled_cpus.into()) {
        hide(sequence, &c_string(&path), [EMPTY_DIRECTORY, EMPTY_FILE]);
    }
    devices(sequence, confinement, new, host);
}

/// What nobody inside may change; after the last that is written there.
pub(super) fn read_only_paths(sequence: &mut Sequence, confinement: &Confinement, host: &Host) {
    const STEP: Step = Step::ReadOnly;
    let set = (libc::MOUNT_ATTR_RDONLY, 0);
    for path in paths(confinement.read_only_paths) {
        let flags = named!(MS_BIND | MS_REC);
        mount(sequence, STEP, Some(&path), &path, None, flags, None).unless_absent();
        set_attributes(sequence, STEP, &path, set, true).unless_absent();
    }
    if host.sys {
        set_attributes(sequence, STEP, c"/sys", set, true)
            .note("what is in it belongs to root, capabilities or not");
    }
}

/// An empty directory and an empty file, which are bound over each path that is hidden: one file system
/// for all of them.
fn make_covers(sequence: &mut Sequence) {
    const STEP: Step = Step::Hide;
    let umask = sequence.cell();
    let flags = named!(MS_NOSUID | MS_NODEV | MS_NOEXEC);
    tmpfs(sequence, STEP, COVERS, flags, c"mode=755,size=4k,nr_inodes=3");
    sequence.call(STEP, number::UMASK, [Arg::octal(0)]).into(umask);
    make_directory(sequence, STEP, EMPTY_DIRECTORY, 0o555);
    make_file(sequence, STEP, EMPTY_FILE, 0o444);
    sequence.call(STEP, number::UMASK, [umask.into()]);
    set_attributes(sequence, STEP, COVERS, (libc::MOUNT_ATTR_RDONLY, 0), false)
        .note("what is bound from here is read-only too");
}

fn paths(paths: &[&str]) -> impl Iterator<Item = CString> {
    paths.iter().map(|path| c_string(path))
}

/// Paths of profiles have no NUL in them.
fn c_string(path: &str) -> CString {
    CString::new(path).unwrap_or_default()
}

/// Binds the first of two covers over a path, or the second where the path is of the other kind.
fn hide(sequence: &mut Sequence, path: &CStr, covers: [&CStr; 2]) {
    for (cover, skip) in covers.into_iter().zip([1, 0]) {
        let call = mount(sequence, Step::Hide, Some(cover), path, None, named!(MS_BIND), None);
        call.unless_absent().skip = skip;
    }
}

fn tmpfs<'a>(
    sequence: &'a mut Sequence,
    step: Step,
    target: &CStr,
    flags: Arg,
    data: &CStr,
) -> &'a mut Call {
    mount(sequence, step, Some(c"tmpfs"), target, Some(c"tmpfs"), flags, Some(data))
}

/// A new /dev over the old one, which is the working directory.
fn devices(sequence: &mut Sequence, confinement: &Confinement, new: NamespaceOptions, host: &Host) {
    const STEP: Step = Step::Dev;
    tmpfs(sequence, STEP, c"/dev", named!(MS_NOSUID | MS_NOEXEC), c"mode=755,size=64k");
    for (name, path) in DEVICES {
        make_file(sequence, STEP, path, 0o644);
        mount(sequence, STEP, Some(name), path, None, named!(MS_BIND), None);
        set_attributes(sequence, STEP, path, (0, libc::MOUNT_ATTR_NODEV), false);
    }
    for (target, path) in LINKS {
        let args = [sequence.text(target), at_cwd(), sequence.text(path)];
        sequence.call(STEP, number::SYMLINKAT, args).about(path);
    }
    make_directory(sequence, STEP, c"/dev/pts", 0o755);
    let data = format!(
        "newinstance,ptmxmode=0666,mode=0620{}",
        if host.terminal_group { ",gid=5" } else { "" }
    );
    let (kind, flags) = (Some(c"devpts"), named!(MS_NOSUID | MS_NOEXEC));
    mount(sequence, STEP, kind, c"/dev/pts", kind, flags, Some(&c_string(&data)));
    shared_memory(sequence, confinement, new);
}

/// Of the container's own, or the caller's where the IPC namespace is shared.
fn shared_memory(sequence: &mut Sequence, confinement: &Confinement, new: NamespaceOptions) {
    const STEP: Step = Step::MountShm;
    let flags = || named!(MS_NOSUID | MS_NODEV | MS_NOEXEC);
    let private = |path: &CStr| {
        let view = confinement.view;
        new.contains(Kind::Ipc)
            || view.is_some_and(|view| {
                view.private.iter().any(|&one| c_string(one).as_c_str() == path)
            })
    };
    for (name, path, kind, data) in [
        (c"shm", SHARED_MEMORY, c"tmpfs", Some(c"mode=1777")),
        (c"mqueue", c"/dev/mqueue", c"mqueue", None),
    ] {
        make_directory(sequence, STEP, path, 0o755);
        if private(path) {
            mount(sequence, STEP, Some(kind), path, Some(kind), flags(), data);
        } else {
            let flags = named!(MS_BIND | MS_REC);
            mount(sequence, STEP, Some(name), path, None, flags, None).unless_absent();
        }
    }
}

fn make_directory(sequence: &mut Sequence, step: Step, path: &CStr, mode: u32) {
    let text = sequence.text(path);
    sequence.call(step, number::MKDIRAT, [at_cwd(), text, Arg::octal(mode)]).about(path);
}

fn make_file(sequence: &mut Sequence, step: Step, path: &CStr, mode: u32) {
    let text = sequence.text(path);
    let mode = Arg::Named((libc::S_IFREG | mode).into(), format!("S_IFREG|0{mode:o}").into());
    sequence.call(step, number::MKNODAT, [at_cwd(), text, mode, Arg::Int(0)]).about(path);
}

/// `mount_setattr(2)`: what is set and what is cleared.
fn set_attributes<'a>(
    sequence: &'a mut Sequence,
    step: Step,
    path: &CStr,
    (set, clear): (u64, u64),
    recursive: bool,
) -> &'a mut Call {
    let names = |bits: u64| match bits {
        0 => "0",
        libc::MOUNT_ATTR_RDONLY => "MOUNT_ATTR_RDONLY",
        libc::MOUNT_ATTR_NODEV => "MOUNT_ATTR_NODEV",
        _ => "MOUNT_ATTR_RDONLY|MOUNT_ATTR_NODEV",
    };
    let shown = format!("{{{}, {}}}", names(set), names(clear));
    let bytes: Vec<u8> = [set, clear, 0, 0].iter().flat_map(|word| word.to_ne_bytes()).collect();
    let attributes = sequence.structure(&bytes, shown);
    let text = sequence.text(path);
    let flags = if recursive { named!(AT_RECURSIVE) } else { Arg::Int(0) };
    let args = [at_cwd(), text, flags, attributes, bytes.len().into()];
    sequence.call(step, number::MOUNT_SETATTR, args).about(path)
}

/// Refuses a profile that covers files where that would cover the caller's.
pub(super) fn check(profile: Profile, new: NamespaceOptions) -> Result<(), SpecError> {
    if !profile.confinement().covers_files() || new.contains(Kind::Mount) {
        return Ok(());
    }
    Err(SpecError::of_text(
        "profile",
        profile.name(),
        "it covers paths of the container's, and the mount namespace is shared with the caller",
        "Make the mount namespace new: NamespaceOptions.with_mount()",
    ))
}

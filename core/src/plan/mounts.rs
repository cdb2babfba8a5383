//! The mounts of a specification, in its order.

use std::ffi::{CStr, CString};
use std::fmt::Write as _;

use super::call::{Arg, Cell, at_cwd, named};
use super::file_calls::{
    change_to, close, make_content, make_mount_points, open_in_root, open_new_root,
    open_write_close,
};
use super::kernel_filesystems::devpts_data;
use super::mount_calls::{attach_to, callers_tree, clone_tree, mount, set_attributes, tmpfs_on};
use super::number;
use super::overlay_tree::{Lower, overlay};
use super::root::assemble::replace;
use super::sequence::Sequence;
use super::setup::NamespaceSetup;
use super::text::bit_names;
use crate::host::files::{Files, LinkedFile, Owner, ResolvedMount};
use crate::spec::{MountKind, MountOptions};
use crate::step::Step;

const SOURCE: Step = Step::MountSource;

/// Opens the sources of mounts, and creates files from given content, before anything is covered. Returns for each
/// mount the tree to attach later, or `None` if it is a new file system.
pub(super) fn open_sources(
    sequence: &mut Sequence,
    setup: &NamespaceSetup<'_>,
    files: &Files,
) -> Vec<Option<Cell>> {
    let in_memory = |kind: &MountKind| {
        matches!(kind, MountKind::Content { .. } | MountKind::Overlay { upper: None, .. })
    };
    let scratch = files.mounts.iter().any(|mount| in_memory(&mount.kind)).then(|| {
        tmpfs_on(sequence, c"/", Owner { mode: 0o755, ..Owner::NEW });
        open_new_root(sequence)
    });
    let mut trees = Vec::new();
    // The kept layers come in the order of the mounts.
    let mut layers = (0_u16..).zip(&files.layers).skip(usize::from(files.keeps_root));
    for (index, mount) in files.mounts.iter().enumerate() {
        let tree = match &mount.kind {
            MountKind::Bind { source } => Some(match mount.tree {
                Some(number) => callers_tree(sequence, SOURCE, number, source),
                None => clone_tree(sequence, SOURCE, at_cwd(), source, true),
            }),
            MountKind::Content { bytes, mode } => scratch.map(|scratch| {
                let name = CString::new(format!("{index}")).expect("digits");
                make_content(sequence, SOURCE, scratch, &name, (bytes, *mode))
            }),
            MountKind::Overlay { lower, upper } => {
                let kept = upper.as_ref().and_then(|_| layers.next());
                let lower = Lower { paths: lower, tree: mount.tree };
                Some(overlay(sequence, scratch, index, lower, kept))
            }
            _ => None,
        };
        let mut set = attributes(&mount.options);
        if setup.masked().is_some() && !mount.options.devices {
            // A profile that restricts devices does so in mounts, too, unless the mount asks for devices.
            set |= libc::MOUNT_ATTR_NODEV;
        }
        if let Some(tree) = tree.filter(|_| set != 0) {
            set_attributes(sequence, SOURCE, (tree.into(), c""), (set, 0), true);
        }
        trees.push(tree);
    }
    if scratch.is_some() {
        let path = sequence.text(c"/");
        sequence
            .call(SOURCE, number::UMOUNT2, [path, named!(MNT_DETACH)])
            .note("descriptors keep the files that were made on it");
    }
    trees
}

/// Mounts everything in order.
pub(super) fn mount_all(
    sequence: &mut Sequence,
    setup: &NamespaceSetup<'_>,
    files: &Files,
    sources: &[Option<Cell>],
    root: Cell,
) {
    const STEP: Step = Step::Mount;
    for (mount, source) in files.mounts.iter().zip(sources) {
        let ResolvedMount { kind, options, place, patches, .. } = mount;
        make_mount_points(sequence, root, &place.make);
        let directory = !matches!(kind, MountKind::Content { .. })
            && (source.is_none() || matches!(kind, MountKind::Overlay { .. }));
        let onto = open_in_root(sequence, STEP, root, &place.path, directory);
        if let Some(tree) = source {
            attach_to(sequence, STEP, *tree, onto, &place.path);
            close(sequence, STEP, *tree);
        } else {
            change_to(sequence, STEP, onto);
            file_system(sequence, setup, kind, options, &place.path);
        }
        close(sequence, STEP, onto);
        for patch in patches {
            // The cover over a directory of the mount gets the attributes of the mount.
            let cover = replace(sequence, root, patch);
            let set = (attributes(options), 0);
            if set != (0, 0) {
                set_attributes(sequence, STEP, (cover.into(), c""), set, false);
            }
        }
    }
}

/// Creates the files that links in /etc lead to.
pub(super) fn create_linked_files(sequence: &mut Sequence, files: &Files, root: Cell) {
    const STEP: Step = Step::LinkedFile;
    for LinkedFile { content, place } in &files.linked {
        let Some((file, directories)) = place.make.split_last() else { continue };
        make_mount_points(sequence, root, directories);
        let parent = open_in_root(sequence, STEP, root, &file.parent, true);
        let flags = named!(O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC);
        let at = (parent.into(), file.name.as_c_str());
        open_write_close(sequence, STEP, at, content, flags, Some(0o644), false);
        close(sequence, STEP, parent);
    }
}

/// Mounts a new file system on the working directory.
fn file_system(
    sequence: &mut Sequence,
    setup: &NamespaceSetup<'_>,
    kind: &MountKind,
    options: &MountOptions,
    path: &CStr,
) {
    let mut data = String::new();
    let given = |name: &str| options.parameters.iter().any(|(given, _)| given == name);
    match kind {
        MountKind::Tmpfs { size, mode } => {
            if !given("mode") {
                let _ = write!(data, ",mode={mode:o}");
            }
            if let Some(size) = size {
                let _ = write!(data, ",size={size}");
            }
        }
        MountKind::Devpts => {
            let own = devpts_data(setup.spec, setup.new, setup.host, &given);
            let _ = write!(data, ",{own}");
        }
        _ => {}
    }
    for (name, value) in &options.parameters {
        let _ = write!(data, ",{name}={value}");
    }
    let data = data.strip_prefix(',').map(|data| CString::new(data).unwrap_or_default());
    let name = CString::new(kind.name()).expect("a word");
    let kind = Some(name.as_c_str());
    mount(sequence, Step::Mount, kind, c".", kind, flags(options), data.as_deref())
        .about(path)
        .note("on the directory that was opened");
}

fn attributes(options: &MountOptions) -> u64 {
    [
        (options.read_only, libc::MOUNT_ATTR_RDONLY),
        (options.no_suid, libc::MOUNT_ATTR_NOSUID),
        (options.no_dev, libc::MOUNT_ATTR_NODEV),
        (options.no_exec, libc::MOUNT_ATTR_NOEXEC),
    ]
    .iter()
    .filter(|(wanted, _)| *wanted)
    .fold(0, |set, (_, bit)| set | bit)
}

/// The flags of mount(2) for the options.
fn flags(options: &MountOptions) -> Arg {
    const NAMES: [(u64, &str); 4] = [
        (libc::MS_RDONLY, "MS_RDONLY"),
        (libc::MS_NOSUID, "MS_NOSUID"),
        (libc::MS_NODEV, "MS_NODEV"),
        (libc::MS_NOEXEC, "MS_NOEXEC"),
    ];
    let wanted = [options.read_only, options.no_suid, options.no_dev, options.no_exec];
    let wanted = NAMES.iter().zip(wanted).filter(|(_, wanted)| *wanted);
    let flags = wanted.fold(0, |flags, ((flag, _), _)| flags | flag);
    Arg::Shown(flags, |flags| bit_names(flags, &NAMES))
}

//! What a specification mounts, in the order in which it says so.

use std::ffi::{CStr, CString};
use std::fmt::Write as _;

use super::root::{replace, tmpfs_on};
use super::{
    Assembly, attach_to, change_to, clone_tree, close, make_content, make_directory, make_file,
    open_in_root, open_new_root, set_attributes,
};
use crate::host::Host;
use crate::host::files::{Files, Make, Owner};
use crate::host::ids::is_mapped;
use crate::plan::call::{Arg, Cell, Sequence};
use crate::plan::isolation::{Inside, at_cwd, mount, named};
use crate::plan::number;
use crate::plan::text::bit_names;
use crate::spec::namespaces::{Kind, NamespaceOptions};
use crate::spec::{IdMap, MountKind, Options, Spec};
use crate::step::Step;

const SOURCE: Step = Step::MountSource;

/// The group of terminals.
const TTY: u32 = 5;

/// Opens what is mounted from outside, and makes what is given in place, before anything is covered:
/// for each mount the tree that is attached later, or `None` where it is a file system of its own.
pub(super) fn open_sources(
    sequence: &mut Sequence,
    inside: &Inside<'_>,
    files: &Files,
) -> Vec<Option<Cell>> {
    let spec = inside.spec;
    debug_assert_eq!(spec.mounts.len(), files.mounts.len(), "facts for each mount");
    let in_memory = |kind: &MountKind| {
        matches!(kind, MountKind::Content { .. } | MountKind::Overlay { upper: None, .. })
    };
    let scratch = spec.mounts.iter().any(|mount| in_memory(&mount.kind)).then(|| {
        tmpfs_on(sequence, c"/", Owner { mode: 0o755, ..Owner::NEW });
        open_new_root(sequence)
    });
    let mut trees = Vec::new();
    for (index, (wanted, place)) in spec.mounts.iter().zip(&files.mounts).enumerate() {
        let outside = &place.sources;
        // Checked when the facts were gathered.
        let options = wanted.parse().unwrap_or_default();
        let tree = match &wanted.kind {
            MountKind::Bind { .. } => {
                outside.first().map(|source| clone_tree(sequence, SOURCE, at_cwd(), source, true))
            }
            MountKind::Content { bytes, mode } => scratch.map(|scratch| {
                let name = CString::new(format!("{index}")).expect("digits");
                make_content(sequence, SOURCE, scratch, &name, (bytes, *mode))
            }),
            MountKind::Overlay { upper, .. } => {
                let (lower, upper) = match outside.split_last() {
                    Some((last, lower)) if upper.is_some() => (lower, Some(last.as_c_str())),
                    _ => (&outside[..], None),
                };
                Some(overlay(sequence, scratch, index, lower, upper))
            }
            _ => None,
        };
        let mut set = attributes(&options);
        if inside.secluded().is_some() && !options.devices {
            // What a profile keeps out does not come in this way, unless it is asked for.
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
            .note("what was made on it is held by descriptors");
    }
    trees
}

/// An overlay that is attached to nothing yet.
fn overlay(
    sequence: &mut Sequence,
    scratch: Option<Cell>,
    index: usize,
    lower: &[CString],
    upper: Option<&CStr>,
) -> Cell {
    let layer = if let Some(upper) = upper {
        super::open_directory(sequence, SOURCE, upper)
    } else {
        let name = CString::new(format!("{index}")).expect("digits");
        let scratch = scratch.expect("there is one for overlays in memory");
        make_directory(sequence, SOURCE, scratch.into(), &name, Owner::NEW, false);
        let layer = super::open_entry(sequence, SOURCE, scratch, &name);
        make_directory(sequence, SOURCE, layer.into(), c"upper", Owner::NEW, false);
        make_directory(sequence, SOURCE, layer.into(), c"work", Owner::NEW, false);
        layer
    };
    // The upper directory is named from the layer.
    change_to(sequence, SOURCE, layer);
    let (filesystem, tree) = (sequence.cell(), sequence.cell());
    let args = [sequence.text(c"overlay"), named!(FSOPEN_CLOEXEC)];
    sequence.call(SOURCE, number::FSOPEN, args).into(filesystem);
    let lower: Vec<Vec<u8>> = lower.iter().map(|path| super::root::escaped(path)).collect();
    let lower = CString::new(lower.join(&b':')).expect("made of strings without a NUL");
    for (key, value) in
        [(c"lowerdir", lower.as_c_str()), (c"upperdir", c"upper"), (c"workdir", c"work")]
    {
        let args = [sequence.text(key), sequence.text(value)];
        let [key, value] = args;
        let args = [filesystem.into(), named!(FSCONFIG_SET_STRING), key, value, Arg::Int(0)];
        sequence.call(SOURCE, number::FSCONFIG, args);
    }
    let key = sequence.text(c"userxattr");
    let args = [filesystem.into(), named!(FSCONFIG_SET_FLAG), key, Arg::Null, Arg::Int(0)];
    sequence.call(SOURCE, number::FSCONFIG, args);
    let args = [filesystem.into(), named!(FSCONFIG_CMD_CREATE), Arg::Null, Arg::Null, Arg::Int(0)];
    sequence.call(SOURCE, number::FSCONFIG, args);
    let args = [filesystem.into(), named!(FSMOUNT_CLOEXEC), Arg::Int(0)];
    sequence.call(SOURCE, number::FSMOUNT, args).into(tree);
    close(sequence, SOURCE, filesystem);
    if upper.is_some() {
        super::open_work_directory(sequence, SOURCE, c"work");
    }
    tree
}

impl Assembly<'_> {
    /// Mounts everything in order.
    pub(super) fn mount_all(&self, sequence: &mut Sequence, sources: &[Option<Cell>], root: Cell) {
        const STEP: Step = Step::Mount;
        for ((wanted, place), source) in
            self.spec.mounts.iter().zip(&self.files.mounts).zip(sources)
        {
            make(sequence, root, &place.make);
            let options = wanted.parse().unwrap_or_default();
            let directory = !matches!(wanted.kind, MountKind::Content { .. })
                && (source.is_none() || matches!(wanted.kind, MountKind::Overlay { .. }));
            let onto = open_in_root(sequence, STEP, root, &place.path, directory);
            if let Some(tree) = source {
                attach_to(sequence, STEP, *tree, onto, &place.path);
                close(sequence, STEP, *tree);
            } else {
                change_to(sequence, STEP, onto);
                self.file_system(sequence, &wanted.kind, &options, &place.path);
            }
            close(sequence, STEP, onto);
            for patch in &place.patches {
                // What covers a part of the mount is as the mount is.
                let cover = replace(sequence, root, patch);
                let set = (attributes(&options), 0);
                if set != (0, 0) {
                    set_attributes(sequence, STEP, (cover.into(), c""), set, false);
                }
            }
        }
    }

    /// Mounts a file system of the container's own on the working directory.
    fn file_system(
        &self,
        sequence: &mut Sequence,
        kind: &MountKind,
        options: &Options,
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
                let own = devpts_data(self.spec, self.new, self.host, &given);
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
}

/// What pseudo terminals are told, but what is `given`: everybody may have one, and their group is tty's where that
/// has an id inside.
pub(crate) fn devpts_data(
    spec: &Spec,
    new: NamespaceOptions,
    host: &Host,
    given: &dyn Fn(&str) -> bool,
) -> String {
    let mut data = "newinstance".to_owned();
    for (name, option, wanted) in [
        ("ptmxmode", ",ptmxmode=0666", true),
        ("mode", ",mode=0620", true),
        ("gid", ",gid=5", has_group(spec, new, host, TTY)),
    ] {
        if wanted && !given(name) {
            data.push_str(option);
        }
    }
    data
}

/// Whether a group has an id inside.
fn has_group(spec: &Spec, new: NamespaceOptions, host: &Host, group: u32) -> bool {
    if !new.contains(Kind::User) {
        return host.uid == 0;
    }
    match &spec.gid_map {
        IdMap::Caller => host.uid == 0 && is_mapped(&host.gid_rows, group),
        IdMap::Rows(rows) => is_mapped(rows, group),
        IdMap::Auto => host.subordinate_gids.first().is_some_and(|(_, count)| *count > group),
    }
}

/// Makes mount points in directories of the container's own. What is there already is left alone; what
/// cannot be made shows when it is to be mounted on.
pub(super) fn make(sequence: &mut Sequence, root: Cell, wanted: &[Make]) {
    const STEP: Step = Step::MountPoint;
    for Make { parent, name, directory } in wanted {
        let parent = open_in_root(sequence, STEP, root, parent, true);
        if *directory {
            make_directory(sequence, STEP, parent.into(), name, Owner::NEW, true);
        } else {
            make_file(sequence, STEP, parent.into(), name, Owner::FILE.mode, true);
        }
        close(sequence, STEP, parent);
    }
}

fn attributes(options: &Options) -> u64 {
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

/// The same for mount(2).
fn flags(options: &Options) -> Arg {
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

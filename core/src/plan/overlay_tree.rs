//! Overlays that are not attached yet.

use std::ffi::{CStr, CString};

use super::call::{Arg, Cell, at_cwd, named};
use super::file_calls::{change_to, close, make_directory, open_entry};
use super::layer::{LayerPlace, escaped, open_kept, open_work_directory};
use super::mount_calls::attach_handle;
use super::number;
use super::sequence::{Part, Sequence};
use crate::host::files::{OuterLayer, Owner};
use crate::step::Step;

const STEP: Step = Step::MountSource;

/// Directories to cover.
#[derive(Clone, Copy)]
pub(super) struct Lower<'a> {
    pub(super) paths: &'a [CString],
    /// The number of the caller's clone of the first; those of the others follow. `None` if the child opens the paths.
    pub(super) tree: Option<u32>,
}

/// An overlay with the writes in a directory of `scratch` with this number; not attached yet.
pub(super) fn memory_overlay(
    sequence: &mut Sequence,
    scratch: Cell,
    number: usize,
    lower: Lower<'_>,
) -> Cell {
    overlay(sequence, Some(scratch), number, lower, None)
}

/// An overlay that is not attached yet.
pub(super) fn overlay(
    sequence: &mut Sequence,
    scratch: Option<Cell>,
    index: usize,
    lower: Lower<'_>,
    kept: Option<(u16, &OuterLayer)>,
) -> Cell {
    let layer = if let Some((number, OuterLayer { path, .. })) = kept {
        open_kept(sequence, STEP, path, number);
        LayerPlace::Kept(number)
    } else {
        let name = CString::new(format!("{index}")).expect("digits");
        let scratch = scratch.expect("there is one for overlays in memory");
        make_directory(sequence, STEP, scratch.into(), &name, Owner::NEW, false);
        let layer = open_entry(sequence, STEP, scratch, &name);
        make_directory(sequence, STEP, layer.into(), c"upper", Owner::NEW, false);
        make_directory(sequence, STEP, layer.into(), c"work", Owner::NEW, false);
        change_to(sequence, STEP, layer);
        LayerPlace::Memory
    };
    let (filesystem, tree) = (sequence.cell(), sequence.cell());
    let args = [sequence.text(c"overlay"), named!(FSOPEN_CLOEXEC)];
    sequence.call(STEP, number::FSOPEN, args).into(filesystem);
    let attached = lower.tree.map_or_else(Vec::new, |first| {
        lower
            .paths
            .iter()
            .zip(first..)
            .map(|(path, number)| attach_lower(sequence, path, number))
            .collect()
    });
    let shown = if attached.is_empty() { lower.paths } else { &attached };
    let lower: Vec<Vec<u8>> = shown.iter().map(|path| escaped(path)).collect();
    let lower = CString::new(lower.join(&b':')).expect("made of strings without a NUL");
    let lower = vec![Part::Text(lower.to_bytes().into())];
    let options =
        [(c"lowerdir", lower), (c"upperdir", layer.upper(c"")), (c"workdir", layer.work(c""))];
    for (key, value) in options {
        let (key, value) = (sequence.text(key), sequence.text_of(&value));
        let args = [filesystem.into(), named!(FSCONFIG_SET_STRING), key, value, Arg::Int(0)];
        sequence.call(STEP, number::FSCONFIG, args);
    }
    let key = sequence.text(c"userxattr");
    let args = [filesystem.into(), named!(FSCONFIG_SET_FLAG), key, Arg::Null, Arg::Int(0)];
    sequence.call(STEP, number::FSCONFIG, args);
    let args = [filesystem.into(), named!(FSCONFIG_CMD_CREATE), Arg::Null, Arg::Null, Arg::Int(0)];
    sequence.call(STEP, number::FSCONFIG, args);
    let args = [filesystem.into(), named!(FSMOUNT_CLOEXEC), Arg::Int(0)];
    sequence.call(STEP, number::FSMOUNT, args).into(tree);
    close(sequence, STEP, filesystem);
    for path in &attached {
        let args = [sequence.text(path), named!(MNT_DETACH)];
        sequence.call(STEP, number::UMOUNT2, args).note("the overlay has a clone of it");
    }
    if layer.is_kept() {
        open_work_directory(sequence, STEP, layer, c"");
    }
    tree
}

/// Attaches the caller's clone of a directory in the working directory, since an overlay takes no detached mount, and
/// returns its path there.
fn attach_lower(sequence: &mut Sequence, source: &CStr, number: u32) -> CString {
    let name = CString::new(format!("lower{number}")).expect("letters and digits");
    make_directory(sequence, STEP, at_cwd(), &name, Owner::NEW, false);
    attach_handle(sequence, STEP, number, at_cwd(), &name).about(source);
    name
}

//! Overlays that are not attached yet.

use std::ffi::CString;

use super::call::{Arg, Cell, named};
use super::file_calls::{change_to, close, make_directory, open_entry};
use super::layer::{LayerPlace, escaped, open_kept, open_work_directory};
use super::number;
use super::sequence::{Part, Sequence};
use crate::host::files::{OuterLayer, Owner};
use crate::step::Step;

const STEP: Step = Step::MountSource;

/// An overlay on a directory, with the writes in a directory of `scratch` with this number; not attached yet.
pub(super) fn memory_overlay(
    sequence: &mut Sequence,
    scratch: Cell,
    number: usize,
    lower: &CString,
) -> Cell {
    overlay(sequence, Some(scratch), number, std::slice::from_ref(lower), None)
}

/// An overlay that is not attached yet.
pub(super) fn overlay(
    sequence: &mut Sequence,
    scratch: Option<Cell>,
    index: usize,
    lower: &[CString],
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
    let lower: Vec<Vec<u8>> = lower.iter().map(|path| escaped(path)).collect();
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
    if layer.is_kept() {
        open_work_directory(sequence, STEP, layer, c"");
    }
    tree
}

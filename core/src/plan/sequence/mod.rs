//! A sequence of system calls with their real arguments, which is both executed and shown.

mod encode;

pub(crate) use encode::EncodeFacts;

use std::borrow::Cow;
use std::ffi::{CStr, OsStr};
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;

use minidocker_init::program::on_error;

use super::call::{Arg, Call, Cell, Handle, Offset};
use super::number::{self, Number};
use crate::step::Step;

/// An ordered list of system calls, and the data that they point to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sequence {
    pub(crate) calls: Vec<Call>,
    /// The arguments of all calls, one after the other.
    args: Vec<Arg>,
    data: Vec<u8>,
    /// Offsets in `data` of pointers into `data`.
    pointers: Vec<usize>,
    /// Decimal numbers that a launch fills in.
    numerals: Vec<Numeral>,
    /// See [`Sequence::await_id_maps`].
    awaits_id_maps: bool,
}

/// A part of a text.
#[derive(Clone, Debug)]
pub(crate) enum Part<'a> {
    Text(Cow<'a, [u8]>),
    /// The path in /proc of a descriptor of the launch.
    Path(Handle),
}

/// The number of a descriptor in the data.
#[derive(Clone, Copy, Debug)]
struct Numeral {
    /// Its offset.
    at: usize,
    handle: Handle,
    /// The digit or character before its first digit.
    padding: u8,
}

/// The last call of a sequence, to set its details.
pub(crate) struct Appended<'a> {
    sequence: &'a mut Sequence,
}

impl Appended<'_> {
    fn call(&mut self) -> &mut Call {
        self.sequence.calls.last_mut().expect("just appended")
    }

    pub(crate) fn into(mut self, cell: Cell) -> Self {
        self.call().result = Some(cell);
        self
    }

    pub(crate) fn ignore(self) -> Self {
        self.ignore_if(true)
    }

    pub(crate) fn ignore_if(self, optional: bool) -> Self {
        if optional { self.on_error(on_error::IGNORE) } else { self }
    }

    /// How many following calls the walk skips when this one succeeds.
    pub(crate) fn skip(mut self, count: u8) -> Self {
        self.call().skip = count;
        self
    }

    /// The walk goes on if the path does not exist. Calls that use the descriptor then get EBADF.
    pub(crate) fn unless_absent(self) -> Self {
        self.on_error(on_error::ABSENT)
    }

    /// One of [`on_error`].
    pub(crate) fn on_error(mut self, what: u8) -> Self {
        self.call().on_error = what;
        self
    }

    pub(crate) fn about(mut self, file: &CStr) -> Self {
        // Most calls have the file among their arguments.
        let sequence = &*self.sequence;
        let args = sequence.calls.last().map_or(&[][..], |call| sequence.args(call));
        let argument = args.iter().find_map(|arg| match arg {
            Arg::Text(place) if sequence.is_at(*place, file) => Some(*place),
            _ => None,
        });
        let place = argument.unwrap_or_else(|| self.sequence.place(file.to_bytes_with_nul()));
        self.call().filename = Some(place);
        self
    }

    pub(crate) fn note(mut self, note: &'static str) -> Self {
        self.call().note = Some(note);
        self
    }
}

/// Characters of a descriptor's number in the data.
const NUMERAL: usize = 10;

impl Sequence {
    /// A sequence with room for most containers, so that it rarely grows.
    pub(super) fn with_room() -> Self {
        Self {
            calls: Vec::with_capacity(128),
            args: Vec::with_capacity(384),
            data: Vec::with_capacity(8192),
            ..Self::default()
        }
    }

    /// Makes the walk skip the last `count` calls if the call before them fails with ENOENT: its file was removed after
    /// the plan was made.
    pub(crate) fn unless_gone(&mut self, count: usize) {
        let at = self.calls.len() - count - 1;
        let call = &mut self.calls[at];
        call.on_error = on_error::GONE;
        call.skip = u8::try_from(count).expect("a handful of calls for one entry");
    }

    /// Appends a call. By default its failure ends the launch.
    pub(crate) fn call<const N: usize>(
        &mut self,
        step: Step,
        number: Number,
        args: [Arg; N],
    ) -> Appended<'_> {
        debug_assert!(N <= 6, "a system call has six arguments at most");
        let first = self.args.len() as u32;
        self.args.extend(args);
        self.calls.push(Call {
            step,
            number,
            args: first..self.args.len() as u32,
            on_error: on_error::FAIL,
            skip: 0,
            result: None,
            filename: None,
            note: None,
        });
        self.appended()
    }

    /// The last call.
    pub(crate) fn appended(&mut self) -> Appended<'_> {
        Appended { sequence: self }
    }

    /// The arguments of a call.
    pub(crate) fn args(&self, call: &Call) -> &[Arg] {
        &self.args[call.args.start as usize..call.args.end as usize]
    }

    /// The file that the error of a failed call names.
    pub(crate) fn filename(&self, call: &Call) -> Option<&OsStr> {
        call.filename.map(|place| OsStr::from_bytes(self.bytes(place, None)))
    }

    /// Whether this place holds this text.
    fn is_at(&self, place: Offset, text: &CStr) -> bool {
        self.data[place.0 as usize..].starts_with(text.to_bytes_with_nul())
    }

    /// Records that the caller writes the id maps, and that no call waits for that yet.
    pub(crate) fn expect_id_maps(&mut self) {
        self.awaits_id_maps = true;
    }

    /// Appends a wait until the caller has written the id maps, unless there is one: the calls after this need mapped
    /// ids. The child makes the calls before it meanwhile.
    pub(crate) fn await_id_maps(&mut self) {
        if std::mem::take(&mut self.awaits_id_maps) {
            self.call(Step::IdMaps, number::AWAIT_PARENT, [Arg::Go])
                .note("the caller writes them meanwhile");
        }
    }

    /// close(2) of each descriptor that earlier calls have opened and not closed, for a process that continues without
    /// an exec.
    pub(crate) fn close_what_is_open(&mut self) {
        let mut open: Vec<Cell> = Vec::new();
        for call in &self.calls {
            if call.opens() {
                open.extend(call.result);
            }
            if call.number.number == number::CLOSE.number {
                open.retain(
                    |cell| !matches!(self.args(call).first(), Some(Arg::Cell(closed)) if closed == cell),
                );
            }
        }
        for cell in open {
            // A skipped call has opened no descriptor.
            self.call(Step::Descriptors, number::CLOSE, [cell.into()]).ignore();
        }
    }

    fn place(&mut self, bytes: &[u8]) -> Offset {
        // The kernel requires that structures in the data are aligned.
        self.data.resize(self.data.len().next_multiple_of(8), 0);
        let place = Offset(self.data.len() as u32);
        self.data.extend_from_slice(bytes);
        place
    }

    /// A C string argument.
    pub(crate) fn text(&mut self, text: &CStr) -> Arg {
        Arg::Text(self.place(text.to_bytes_with_nul()))
    }

    /// A C string argument that contains paths of descriptors. Such a path has more than one slash before the number.
    pub(crate) fn text_of(&mut self, parts: &[Part<'_>]) -> Arg {
        let place = self.place(&[]);
        let mut shown = String::from("\"");
        for part in parts {
            match part {
                Part::Text(text) => {
                    self.data.extend_from_slice(text);
                    let _ = write!(shown, "{}", text.escape_ascii());
                }
                Part::Path(handle) => {
                    self.data.extend_from_slice(b"/proc/self/fd");
                    let at = self.data.len();
                    self.numerals.push(Numeral { at, handle: *handle, padding: b'/' });
                    self.data.extend_from_slice(&[b'/'; NUMERAL]);
                    let _ = write!(shown, "/proc/self/fd/{}", handle.name());
                }
            }
        }
        self.data.push(0);
        shown.push('"');
        Arg::StructAs(place, shown.into())
    }

    /// A buffer argument; its length goes into the next argument.
    pub(crate) fn buffer(&mut self, bytes: &[u8]) -> Arg {
        Arg::Buffer(self.place(bytes), bytes.len() as u32)
    }

    /// The buffers that are not in the data.
    fn lent(&self) -> impl Iterator<Item = &[u8]> {
        self.args.iter().filter_map(|arg| match arg {
            Arg::Lent(bytes) => Some(&**bytes),
            _ => None,
        })
    }

    /// A structure argument, shown as `shown`.
    pub(crate) fn structure(&mut self, bytes: &[u8], shown: &'static str) -> Arg {
        Arg::Struct(self.place(bytes), shown)
    }

    /// A structure argument, shown as a text that is made at run time.
    pub(crate) fn structure_as(&mut self, bytes: &[u8], shown: String) -> Arg {
        Arg::StructAs(self.place(bytes), shown.into())
    }

    /// A structure of words, with a text that is computed only when the plan is shown.
    pub(crate) fn words(&mut self, words: &[u64], show: fn(&[u64]) -> String) -> Arg {
        Arg::Words(self.place_words(words), words.len() as u8, show)
    }

    /// A structure of words, shown as `shown`.
    pub(crate) fn words_shown(&mut self, words: &[u64], shown: &'static str) -> Arg {
        Arg::Struct(self.place_words(words), shown)
    }

    fn place_words(&mut self, words: &[u64]) -> Offset {
        let place = self.place(&[]);
        for word in words {
            self.data.extend_from_slice(&word.to_ne_bytes());
        }
        place
    }

    /// The words that [`Self::words`] placed.
    pub(crate) fn words_at(&self, place: Offset, count: u8) -> Vec<u64> {
        let bytes = self.bytes(place, Some(u32::from(count) * 8));
        bytes.chunks_exact(8).map(|word| word.try_into().map_or(0, u64::from_ne_bytes)).collect()
    }

    /// A new cell.
    pub(crate) fn cell(&mut self) -> Cell {
        Cell(self.place(&(-1_i32).to_ne_bytes()))
    }

    /// The address of a cell, for a call that reads the value from memory.
    pub(crate) fn address_of(cell: Cell, shown: &'static str) -> Arg {
        Arg::Struct(cell.0, shown)
    }

    /// An array of strings, as execve(2) takes them.
    pub(crate) fn strings<'a>(&mut self, strings: impl IntoIterator<Item = &'a CStr>) -> Arg {
        let places: Vec<Offset> =
            strings.into_iter().map(|string| self.place(string.to_bytes_with_nul())).collect();
        let array = self.pointers_to(&places);
        Arg::Strings(array, places.len() as u32)
    }

    /// An array of strings that are stored one after the other, each with its NUL.
    pub(crate) fn lines(&mut self, lines: &[u8]) -> Arg {
        let first = self.place(lines).0;
        let lines = lines.split_inclusive(|&byte| byte == 0);
        let place = |at: &mut u32, line: &[u8]| {
            Some(Offset(std::mem::replace(at, *at + line.len() as u32)))
        };
        let places: Vec<Offset> = lines.scan(first, place).collect();
        let array = self.pointers_to(&places);
        Arg::Strings(array, places.len() as u32)
    }

    /// The helper's arguments: its name, and the numbers of two descriptors, its program's and the one for a report that
    /// it cannot read its program.
    pub(crate) fn helper_arguments(&mut self, program: Handle, report: Handle) -> Arg {
        let name = self.place(c"minidocker-init".to_bytes_with_nul());
        let numerals = [program, report].map(|handle| {
            let numeral = self.place(&[0; NUMERAL + 1]);
            let at = numeral.0 as usize;
            self.numerals.push(Numeral { at, handle, padding: b'0' });
            numeral
        });
        let array = self.pointers_to(&[name, numerals[0], numerals[1]]);
        let shown = match report {
            Handle::Control => r#"["minidocker-init", "<program>", "<control>"]"#,
            _ => r#"["minidocker-init", "<program>", "<report>"]"#,
        };
        Arg::Struct(array, shown)
    }

    /// An array of pointers to places, null at its end.
    fn pointers_to(&mut self, places: &[Offset]) -> Offset {
        let array = self.place(&[]);
        for place in places {
            self.pointers.push(self.data.len());
            self.data.extend_from_slice(&u64::from(place.0).to_ne_bytes());
        }
        self.data.extend_from_slice(&0_u64.to_ne_bytes());
        array
    }

    /// A `struct msghdr` with `payload` and a descriptor. Returns it with the cell for the descriptor.
    pub(crate) fn message_with_descriptor(
        &mut self,
        payload: &[u8],
        shown: &'static str,
    ) -> (Arg, Cell) {
        /// The offset of the descriptor, after a `struct cmsghdr`.
        const FIRST: usize = 16;
        const LENGTH: usize = FIRST + 4;
        let payload_place = self.place(payload);
        let part = self.pointers_to(&[payload_place]);
        // The length replaces the array's terminating null pointer.
        self.patch(part.0 as usize + 8, payload.len() as u64);
        let mut rights = Vec::new();
        rights.extend_from_slice(&(LENGTH as u64).to_ne_bytes());
        rights.extend_from_slice(&libc::SOL_SOCKET.to_ne_bytes());
        rights.extend_from_slice(&libc::SCM_RIGHTS.to_ne_bytes());
        rights.resize(LENGTH, u8::MAX);
        rights.resize(LENGTH.next_multiple_of(8), 0);
        let control = self.place(&rights);
        let header = self.place(&[0; 56]);
        let at = header.0 as usize;
        self.patch(at + 16, part.0.into());
        self.pointers.push(at + 16);
        self.patch(at + 24, 1);
        self.patch(at + 32, control.0.into());
        self.pointers.push(at + 32);
        self.patch(at + 40, rights.len() as u64);
        (Arg::Struct(header, shown), Cell(Offset(control.0 + FIRST as u32)))
    }

    /// A structure with a descriptor at offset `at`. Returns it with the cell for the descriptor.
    pub(crate) fn structure_with_descriptor(
        &mut self,
        bytes: &[u8],
        at: usize,
        shown: String,
    ) -> (Arg, Cell) {
        let place = self.place(bytes);
        (Arg::StructAs(place, shown.into()), Cell(Offset(place.0 + at as u32)))
    }

    /// A `struct sock_fprog` with these instructions.
    pub(crate) fn filter(&mut self, instructions: &[libc::sock_filter], shown: String) -> Arg {
        let mut bytes = Vec::with_capacity(size_of_val(instructions));
        for instruction in instructions {
            bytes.extend_from_slice(&instruction.code.to_ne_bytes());
            bytes.extend_from_slice(&[instruction.jt, instruction.jf]);
            bytes.extend_from_slice(&instruction.k.to_ne_bytes());
        }
        let list = self.place(&bytes);
        let program = self.place(&[0; 16]);
        let count = instructions.len() as u16;
        let at = program.0 as usize;
        self.data[at..at + 2].copy_from_slice(&count.to_ne_bytes());
        self.patch(at + 8, list.0.into());
        self.pointers.push(at + 8);
        Arg::StructAs(program, shown.into())
    }

    fn patch(&mut self, at: usize, value: u64) {
        self.data[at..at + 8].copy_from_slice(&value.to_ne_bytes());
    }

    /// The bytes of an argument that is text.
    pub(crate) fn bytes(&self, place: Offset, length: Option<u32>) -> &[u8] {
        let rest = &self.data[place.0 as usize..];
        match length {
            Some(length) => &rest[..length as usize],
            None => rest.split(|&byte| byte == 0).next().unwrap_or_default(),
        }
    }

    /// The strings of an array argument.
    pub(crate) fn array(&self, place: Offset, count: u32) -> impl Iterator<Item = &[u8]> {
        (0..count).map(move |index| {
            let at = (place.0 + index * 8) as usize;
            let offset = self.data[at..at + 8].try_into().map_or(0, u64::from_ne_bytes);
            self.bytes(Offset(offset as u32), None)
        })
    }
}

//! The flat form of a sequence, which the child walks: see [`program`].

use std::mem::offset_of;
use std::os::fd::RawFd;

use minidocker_init::program::{self, EncodedCall, Header};

use super::{NUMERAL, Numeral, Sequence};
use crate::plan::call::{Arg, Call, Handles};

impl Sequence {
    /// The flat form, ready to be relocated.
    pub(crate) fn encode(&self, facts: &EncodeFacts<'_>) -> Box<[u64]> {
        let lines: usize = facts.lines.iter().map(Vec::len).sum();
        let table = size_of::<Header>() + self.calls.len() * size_of::<EncodedCall>();
        // Each argument may be a pointer, and each call has two more.
        let relocation_capacity = self.pointers.len() + self.args.len() + self.calls.len() * 2;
        let data_at = (table + relocation_capacity * 4).next_multiple_of(8);
        let lent_at = data_at + self.data.len() + lines;
        let length =
            lent_at + if facts.stage == 0 { 0 } else { self.lent().map(<[u8]>::len).sum() };
        let mut bytes = vec![0_u8; length.next_multiple_of(8)];
        let relocations = Vec::with_capacity(relocation_capacity);
        let mut writer = Writer { buffer: &mut bytes, relocations, lent_at };
        writer.bytes(data_at, &self.data);
        for Numeral { at, handle, padding } in &self.numerals {
            let digits = facts.handles.get(*handle).to_string();
            let mut number = [*padding; NUMERAL];
            number[NUMERAL - digits.len()..].copy_from_slice(digits.as_bytes());
            writer.bytes(data_at + at, &number);
        }
        for at in &self.pointers {
            writer.pointer_at(data_at + at, data_at);
        }
        let mut line_at = data_at + self.data.len();
        for (index, call) in self.calls.iter().enumerate() {
            let at = size_of::<Header>() + index * size_of::<EncodedCall>();
            let line = facts.lines.get(index).map_or(&[][..], Vec::as_slice);
            writer.call(at, (call, self.args(call)), facts, data_at, (line_at, line));
            line_at += line.len();
        }
        let relocations = std::mem::take(&mut writer.relocations);
        for (index, offset) in relocations.iter().enumerate() {
            writer.bytes(table + index * 4, &offset.to_ne_bytes());
        }
        writer.header(facts, self.calls.len(), relocations.len(), length);
        // The buffer is read as words: a `Vec<u8>` promises no alignment.
        bytes.chunks_exact(8).map(|word| word.try_into().map_or(0, u64::from_ne_bytes)).collect()
    }
}

/// The facts about one launch with which a sequence is encoded.
pub(crate) struct EncodeFacts<'a> {
    pub(crate) role: u32,
    pub(crate) stage: u32,
    pub(crate) handles: Handles,
    pub(crate) report: RawFd,
    pub(crate) control: RawFd,
    pub(crate) trace: RawFd,
    /// The line of each call, if the launch is traced.
    pub(crate) lines: &'a [Vec<u8>],
    pub(crate) mask: u64,
    pub(crate) inject: Option<(u32, i32)>,
}

impl EncodeFacts<'_> {
    /// Facts for a program without a trace that reports failures in its own header.
    pub(crate) fn new(role: u32, handles: Handles, mask: u64) -> Self {
        Self {
            role,
            stage: 0,
            handles,
            report: -1,
            control: -1,
            trace: -1,
            lines: &[],
            mask,
            inject: None,
        }
    }
}

struct Writer<'a> {
    buffer: &'a mut [u8],
    relocations: Vec<u32>,
    /// The offset of the next buffer that was lent.
    lent_at: usize,
}

impl Writer<'_> {
    fn bytes(&mut self, at: usize, bytes: &[u8]) {
        self.buffer[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn header(&mut self, facts: &EncodeFacts<'_>, calls: usize, relocations: usize, length: usize) {
        let (inject_at, inject_errno) = facts.inject.unwrap_or((program::NOTHING_FAILED, 0));
        let mut half = |at, value: u32| self.bytes(at, &value.to_ne_bytes());
        half(offset_of!(Header, magic), program::MAGIC);
        half(offset_of!(Header, role), facts.role);
        half(offset_of!(Header, calls), calls as u32);
        half(offset_of!(Header, relocations), relocations as u32);
        half(offset_of!(Header, length), length as u32);
        half(offset_of!(Header, inject_at), inject_at);
        half(offset_of!(Header, inject_errno), inject_errno as u32);
        half(offset_of!(Header, trace), facts.trace as u32);
        half(offset_of!(Header, report), facts.report as u32);
        half(offset_of!(Header, control), facts.control as u32);
        half(offset_of!(Header, go), program::go::WAIT);
        // Not 0: the kernel sets it to 0 when the child leaves this memory.
        half(offset_of!(Header, tid), program::tid::HERE);
        half(offset_of!(Header, failed_at), program::NOTHING_FAILED);
        half(offset_of!(Header, stage), facts.stage);
        half(offset_of!(Header, caller), facts.handles.caller as u32);
        self.word(offset_of!(Header, mask), facts.mask);
    }

    fn word(&mut self, at: usize, value: u64) {
        self.bytes(at, &value.to_ne_bytes());
    }

    /// Stores a pointer to `target`, an offset in the buffer.
    fn pointer(&mut self, at: usize, target: usize) {
        self.word(at, target as u64);
        self.relocations.push(at as u32);
    }

    /// Replaces an offset in the data, stored at `at`, by the offset in the buffer.
    fn pointer_at(&mut self, at: usize, data_at: usize) {
        let bytes = self.buffer[at..at + 8].try_into().unwrap_or([0; 8]);
        self.pointer(at, u64::from_ne_bytes(bytes) as usize + data_at);
    }

    fn call(
        &mut self,
        at: usize,
        (call, args): (&Call, &[Arg]),
        facts: &EncodeFacts<'_>,
        data_at: usize,
        (line_at, line): (usize, &[u8]),
    ) {
        let mut cells = 0_u8;
        for (index, arg) in args.iter().enumerate() {
            let at = at + offset_of!(EncodedCall, args) + index * 8;
            match arg {
                Arg::Int(value) => self.word(at, *value as u64),
                Arg::Named(value, _) | Arg::NamedAs(value, _) | Arg::Shown(value, _) => {
                    self.word(at, *value);
                }
                Arg::Null => {}
                Arg::Handle(handle) => self.word(at, i64::from(facts.handles.get(*handle)) as u64),
                Arg::Text(place)
                | Arg::Buffer(place, _)
                | Arg::Strings(place, _)
                | Arg::Struct(place, _)
                | Arg::StructAs(place, _)
                | Arg::Words(place, ..) => self.pointer(at, data_at + place.0 as usize),
                // The child walks the first stage in the caller's memory.
                Arg::Lent(bytes) if facts.stage == 0 => self.word(at, bytes.as_ptr() as u64),
                Arg::Lent(bytes) => {
                    self.pointer(at, self.lent_at);
                    self.bytes(self.lent_at, bytes);
                    self.lent_at += bytes.len();
                }
                Arg::Cell(cell) => {
                    cells |= 1 << index;
                    self.pointer(at, data_at + cell.0.0 as usize);
                }
                Arg::Mask => self.pointer(at, offset_of!(Header, mask)),
                Arg::Go => self.pointer(at, offset_of!(Header, go)),
                Arg::Program => self.pointer(at, 0),
            }
        }
        self.bytes(at + offset_of!(EncodedCall, nr), &call.number.number.to_ne_bytes());
        let opens = u8::from(call.opens());
        self.bytes(
            at + offset_of!(EncodedCall, on_error),
            &[call.on_error, call.skip, cells, opens],
        );
        if let Some(cell) = call.result {
            self.pointer(at + offset_of!(EncodedCall, result), data_at + cell.0.0 as usize);
        }
        if !line.is_empty() {
            self.pointer(at + offset_of!(EncodedCall, line), line_at);
            self.word(at + offset_of!(EncodedCall, line_length), line.len() as u64);
            self.bytes(line_at, line);
        }
    }
}

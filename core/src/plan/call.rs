//! One system call of a plan, and its arguments.

use std::ops::Range;
use std::os::fd::RawFd;
use std::sync::Arc;

use super::number::{self, Number};
use crate::step::Step;

/// An offset in the sequence's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offset(pub(super) u32);

/// An `i32` in the data that one call writes and later calls read. It starts as -1: after an ignored failure the later
/// calls get EBADF instead of another descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell(pub(super) Offset);

/// A descriptor that a launch opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handle {
    /// The sealed memfd with the helper program.
    Helper,
    /// The memfd with the program of the helper with this number.
    Program(u8),
    /// The descriptor on which the helper reports failures.
    Report,
    /// The socket on which init reports on the command.
    Control,
    /// The socket to the watchdog.
    Watchdog,
    /// A pidfd of the process whose namespaces are entered.
    Target,
    /// The upper directory of the kept layer with this number.
    Upper(u16),
    /// Its work directory.
    Work(u16),
    /// A pidfd of the caller.
    Caller,
    /// The caller's end of the socket behind `Control`.
    CallerControl,
    /// The mount with this number that the caller has cloned.
    Tree(u32),
}

impl Handle {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Helper => "<helper>",
            Self::Program(_) => "<program>",
            Self::Report => "<report>",
            Self::Control => "<control>",
            Self::Watchdog => "<watchdog>",
            Self::Target => "<target>",
            Self::Upper(_) => "<upper>",
            Self::Work(_) => "<work>",
            Self::Caller => "<caller>",
            Self::CallerControl => "<caller's control>",
            Self::Tree(_) => "<tree>",
        }
    }
}

/// The numbers of the descriptors that a launch has opened.
#[derive(Clone, Debug)]
pub(crate) struct Handles {
    pub(crate) helper: RawFd,
    pub(crate) programs: [RawFd; 2],
    pub(crate) report: RawFd,
    pub(crate) control: RawFd,
    pub(crate) watchdog: RawFd,
    pub(crate) target: RawFd,
    /// The upper and the work directory of each kept layer.
    pub(crate) layers: Vec<[RawFd; 2]>,
    pub(crate) caller: RawFd,
    pub(crate) caller_control: RawFd,
    /// The mounts that the caller has cloned.
    pub(crate) trees: Vec<RawFd>,
}

impl Handles {
    pub(crate) const NONE: Self = Self {
        helper: -1,
        programs: [-1; 2],
        report: -1,
        control: -1,
        watchdog: -1,
        target: -1,
        layers: Vec::new(),
        caller: -1,
        caller_control: -1,
        trees: Vec::new(),
    };

    pub(super) fn get(&self, handle: Handle) -> RawFd {
        match handle {
            Handle::Helper => self.helper,
            Handle::Program(number) => self.programs[number as usize],
            Handle::Report => self.report,
            Handle::Control => self.control,
            Handle::Watchdog => self.watchdog,
            Handle::Target => self.target,
            Handle::Upper(number) => self.layers[number as usize][0],
            Handle::Work(number) => self.layers[number as usize][1],
            Handle::Caller => self.caller,
            Handle::CallerControl => self.caller_control,
            Handle::Tree(number) => self.trees[number as usize],
        }
    }
}

/// An argument of a system call.
#[derive(Clone, Debug)]
pub(crate) enum Arg {
    /// A number, shown in decimal.
    Int(i64),
    /// A number with a name: flags, commands. Shown by name.
    Named(u64, &'static str),
    /// A number with a name that is made at run time.
    NamedAs(u64, Box<str>),
    /// A number with a name that is computed only when the plan is shown.
    Shown(u64, fn(u64) -> String),
    /// A null pointer.
    Null,
    /// A C string.
    Text(Offset),
    /// A buffer, whose length is another argument; shown as text.
    Buffer(Offset, u32),
    /// A large buffer, which is not copied for a child that shares the caller's memory.
    Lent(Arc<[u8]>),
    /// An array of this many C strings, with a null pointer at its end.
    Strings(Offset, u32),
    /// A structure, shown as this text.
    Struct(Offset, &'static str),
    /// A structure, shown as a text that is made at run time.
    StructAs(Offset, Box<str>),
    /// A structure of this many words, with a text that is computed only when the plan is shown.
    Words(Offset, u8, fn(&[u64]) -> String),
    /// The value that an earlier call wrote to the cell.
    Cell(Cell),
    /// A descriptor of the launch.
    Handle(Handle),
    /// The address of the header's signal mask.
    Mask,
    /// The address of the header's futex word.
    Go,
    /// The address of the program itself; not shown.
    Program,
}

impl From<i32> for Arg {
    fn from(value: i32) -> Self {
        Self::Int(value.into())
    }
}

impl From<u32> for Arg {
    fn from(value: u32) -> Self {
        Self::Int(value.into())
    }
}

impl From<usize> for Arg {
    fn from(value: usize) -> Self {
        Self::Int(value as i64)
    }
}

impl From<Cell> for Arg {
    fn from(cell: Cell) -> Self {
        Self::Cell(cell)
    }
}

impl From<Handle> for Arg {
    fn from(handle: Handle) -> Self {
        Self::Handle(handle)
    }
}

/// One system call of a plan.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) step: Step,
    pub(crate) number: Number,
    /// The range of its arguments in the sequence: see [`Sequence::args`](super::sequence::Sequence::args).
    pub(super) args: Range<u32>,
    pub(crate) on_error: u8,
    /// How many following calls the walk skips when this one succeeds; see
    /// [`Sequence::unless_gone`](super::sequence::Sequence::unless_gone).
    pub(crate) skip: u8,
    pub(crate) result: Option<Cell>,
    /// The file that a failure is about: see [`Sequence::filename`](super::sequence::Sequence::filename).
    pub(super) filename: Option<Offset>,
    /// The purpose of the call.
    pub(crate) note: Option<&'static str>,
}

impl Call {
    /// Whether its result is a descriptor. Every result that later calls use is one, with three exceptions.
    pub(crate) fn opens(&self) -> bool {
        const OTHERS: [u32; 3] =
            [number::FORK_CALLER.number, number::GETPID.number, number::UMASK.number];
        self.result.is_some() && !OTHERS.contains(&self.number.number)
    }
}

/// A flag argument, shown by name.
macro_rules! named {
    ($($flag:ident)|+) => {
        $crate::plan::call::Arg::Named(
            0 $(| libc::$flag as u64)+,
            // `text` removes the last bar.
            concat!($(stringify!($flag), "|"),+),
        )
    };
}
pub(crate) use named;

/// `AT_FDCWD`: a path is relative to the working directory.
pub(crate) fn at_cwd() -> Arg {
    Arg::Named(i64::from(libc::AT_FDCWD) as u64, "AT_FDCWD")
}

//! Encodes the stages of a plan as programs, with the descriptors and settings of one launch.

#![expect(unsafe_code, reason = "borrows the descriptor that the caller lends for the lines")]

use std::os::fd::{BorrowedFd, RawFd};

use crate::clone::signal_mask::signal_mask;
use crate::plan::call::Handles;
use crate::plan::sequence::EncodeFacts;
use crate::plan::{Line, Plan};

/// Encodes the stages of a plan for one launch.
pub(super) struct StageEncoder<'a> {
    plan: &'a Plan,
    mask: u64,
    /// The descriptor that the lines of the calls are written to; -1 for none.
    trace: RawFd,
    /// For tests: a stage, the index of a call in it that fails, and its error number.
    inject: Option<(usize, u32, i32)>,
}

impl<'a> StageEncoder<'a> {
    pub(super) fn new(plan: &'a Plan, trace: Option<RawFd>, inject: Option<(u32, i32)>) -> Self {
        let inject = inject.and_then(|(number, errno)| {
            plan.call_with_number(number).map(|(stage, index)| (stage, index, errno))
        });
        Self { plan, mask: signal_mask(), trace: trace.unwrap_or(-1), inject }
    }

    /// Encodes a stage. Its process reports failures on `report`, or in the shared header if that is -1.
    pub(super) fn encode(&self, number: usize, handles: &Handles, report: RawFd) -> Box<[u64]> {
        let stage = &self.plan.stages[number];
        let lines = if self.trace >= 0 { self.lines(number) } else { Vec::new() };
        let inject = self.inject.filter(|&(at, ..)| at == number);
        stage.sequence.encode(&EncodeFacts {
            stage: number as u32,
            report,
            control: handles.control,
            trace: self.trace,
            lines: &lines,
            inject: inject.map(|(_, index, errno)| (index, errno)),
            ..EncodeFacts::new(stage.role, handles.clone(), self.mask)
        })
    }

    fn lines(&self, number: usize) -> Vec<Vec<u8>> {
        self.plan.stage_lines(number).iter().map(bytes_of).collect()
    }

    /// Writes the lines of the caller's own calls: the directories, the clone, and the id maps.
    pub(super) fn trace_caller(&self) {
        if self.trace < 0 {
            return;
        }
        let text: Vec<u8> = self.plan.caller_lines().iter().flat_map(bytes_of).collect();
        // SAFETY: the caller lends the descriptor for the launch.
        let trace = unsafe { BorrowedFd::borrow_raw(self.trace) };
        // Do not fail the launch if the reader has closed its end.
        let _ = rustix::io::write(trace, &text);
    }
}

fn bytes_of(line: &Line) -> Vec<u8> {
    format!("{line}\n").into_bytes()
}

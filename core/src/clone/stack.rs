//! Stacks for children that share the caller's memory.

use std::cell::Cell;
use std::ffi::c_void;
use std::io;

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};

/// The walk is one loop with a handful of small frames; at-fork handlers of C libraries, which run
/// here when the caller is forked, have more. What is not touched costs nothing.
const SIZE: usize = 256 * 1024;
/// Below the stack: an overflow ends the child instead of the caller's data. The largest page size
/// that Linux uses on the supported machines.
const GUARD: usize = 64 * 1024;

/// A stack with a guard below it. Each thread keeps one, since mapping is slow in a process with
/// threads; one that is in use is not there to be taken, so a launch from a signal handler gets its own.
pub(super) struct Stack {
    base: *mut c_void,
}

thread_local! {
    static SPARE: Spare = const { Spare(Cell::new(None)) };
}

struct Spare(Cell<Option<Stack>>);

impl Drop for Spare {
    fn drop(&mut self) {
        if let Some(stack) = self.0.take() {
            stack.unmap();
        }
    }
}

impl Stack {
    pub(super) fn take() -> io::Result<Self> {
        let spare = SPARE.try_with(|spare| spare.0.take()).ok().flatten();
        spare.map_or_else(Self::map, Ok)
    }

    /// To be called when no child uses it any more; without that call the memory stays mapped.
    pub(super) fn give_back(self) {
        let mut stack = Some(self);
        let _ = SPARE.try_with(|spare| {
            if let Some(before) = spare.0.replace(stack.take()) {
                before.unmap();
            }
        });
        if let Some(stack) = stack {
            stack.unmap();
        }
    }

    /// The address that the child starts with: the end, aligned as the ABI wants it.
    pub(super) fn top(&self) -> *mut c_void {
        // SAFETY: the end of the mapping, one past its last byte.
        unsafe { self.base.byte_add(GUARD + SIZE) }
    }

    fn map() -> io::Result<Self> {
        let flags = MapFlags::PRIVATE | MapFlags::STACK | MapFlags::NORESERVE;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping, at a place that the kernel chooses.
        let base = unsafe { mmap_anonymous(std::ptr::null_mut(), GUARD + SIZE, access, flags) }?;
        let stack = Self { base };
        // SAFETY: the lowest part of the mapping, which nobody uses.
        let guarded = unsafe { mprotect(base, GUARD, MprotectFlags::empty()) };
        if let Err(error) = guarded {
            stack.unmap();
            return Err(error.into());
        }
        Ok(stack)
    }

    fn unmap(self) {
        // SAFETY: mapped by `map` with this length, and in use by nobody.
        let unmapped = unsafe { munmap(self.base, GUARD + SIZE) };
        debug_assert!(unmapped.is_ok(), "a mapping of our own can be unmapped");
    }
}

//! Stacks for children that share the caller's memory.

use std::cell::Cell;
use std::ffi::c_void;
use std::io;

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};

/// The walk needs a few small frames. The at-fork handlers of C libraries, which run on this stack when the caller
/// is forked, need more. Untouched pages cost nothing.
const SIZE: usize = 256 * 1024;
/// The guard below the stack: an overflow ends the child instead of overwriting the caller's data. As large as the
/// largest page on the supported machines.
const GUARD: usize = 64 * 1024;

/// A stack with a guard below it. Each thread keeps one for its next launch, because mapping memory is slow in a
/// process with threads. A launch from a signal handler maps another one while the thread's own is in use.
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

    /// Keeps the stack for the thread's next launch. Call it only when no child uses the stack any more; a stack that
    /// is dropped instead stays mapped.
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

    /// The child's first stack pointer: the end of the stack, aligned as the ABI requires.
    pub(super) fn top(&self) -> *mut c_void {
        // SAFETY: the end of the mapping, one past its last byte.
        unsafe { self.base.byte_add(GUARD + SIZE) }
    }

    fn map() -> io::Result<Self> {
        let flags = MapFlags::PRIVATE | MapFlags::STACK | MapFlags::NORESERVE;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let base = unsafe { mmap_anonymous(std::ptr::null_mut(), GUARD + SIZE, access, flags) }?;
        let stack = Self { base };
        // SAFETY: the lowest part of the mapping, which is not in use yet.
        let guarded = unsafe { mprotect(base, GUARD, MprotectFlags::empty()) };
        if let Err(error) = guarded {
            stack.unmap();
            return Err(error.into());
        }
        Ok(stack)
    }

    fn unmap(self) {
        // SAFETY: `map` made it with this length, and no child uses it.
        let unmapped = unsafe { munmap(self.base, GUARD + SIZE) };
        debug_assert!(unmapped.is_ok(), "a mapping of our own can be unmapped");
    }
}

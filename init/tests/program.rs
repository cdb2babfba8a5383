//! The layout of a program, which the encoder writes and the walk reads.

#![expect(unsafe_code, reason = "relocating and walking a program follow its pointers")]

use std::sync::atomic::{AtomicI32, AtomicU32};

use minidocker_init::child::walk;
use minidocker_init::program::{
    EncodedCall, Header, MAGIC, Message, message, on_error, relocate, role,
};

/// A program of calls that all fail with ENOSYS, as the encoder lays it out.
#[repr(C)]
struct Program {
    header: Header,
    calls: [EncodedCall; 2],
    /// Offsets of the pointers.
    relocations: [u32; 2],
    text: [u8; 8],
}

const NO_SUCH_CALL: u32 = 100_000;
const ENOSYS: i32 = 38;
const ENOEXEC: i32 = 8;

fn call(on_error: u8) -> EncodedCall {
    let (args, result, line, line_length) = ([0; 6], 0, 0, 0);
    EncodedCall {
        nr: NO_SUCH_CALL,
        on_error,
        skip: 0,
        cells: 0,
        opens: 0,
        args,
        result,
        line,
        line_length,
    }
}

fn program(first: u8, second: u8) -> Program {
    let text = std::mem::offset_of!(Program, text);
    let pointer = |index: usize| {
        std::mem::offset_of!(Program, calls)
            + index * size_of::<EncodedCall>()
            + std::mem::offset_of!(EncodedCall, line)
    };
    let mut calls = [call(first), call(second)];
    for call in &mut calls {
        call.line = text as u64;
    }
    let header = Header {
        magic: MAGIC,
        role: role::WALK,
        calls: 2,
        relocations: 2,
        length: size_of::<Program>() as u32,
        inject_at: u32::MAX,
        inject_errno: 0,
        trace: -1,
        report: -1,
        control: -1,
        go: AtomicU32::new(0),
        tid: AtomicU32::new(0),
        failed_at: AtomicU32::new(0),
        failed_errno: AtomicI32::new(0),
        mask: 0,
        stage: 0,
        adopted: 0,
        caller: -1,
        child: AtomicU32::new(0),
        fork: None,
        fork_context: 0,
    };
    Program {
        header,
        calls,
        relocations: [pointer(0) as u32, pointer(1) as u32],
        text: *b"a line\n\0",
    }
}

#[test]
fn relocation_turns_each_offset_into_an_address() {
    let mut program = Box::new(program(on_error::FAIL, on_error::FAIL));
    // SAFETY: a whole program in memory of its own, relocated once.
    unsafe { relocate((&raw mut *program).cast()) };
    let text = program.text.as_ptr() as u64;
    assert!(program.calls.iter().all(|call| call.line == text));
}

#[test]
fn each_call_decides_whether_its_failure_ends_the_walk() {
    let failure = |first, second| {
        let mut program = Box::new(program(first, second));
        // SAFETY: as above.
        unsafe { relocate((&raw mut *program).cast()) };
        // SAFETY: the program is relocated and not shared, and no kernel has its system call.
        let failure = unsafe { walk((&raw mut *program).cast()) };
        (failure.index, failure.errno)
    };
    assert_eq!(failure(on_error::FAIL, on_error::FAIL), (0, ENOSYS));
    assert_eq!(failure(on_error::IGNORE, on_error::FAIL), (1, ENOSYS));
    assert_eq!(failure(on_error::IGNORE, on_error::IGNORE), (2, ENOEXEC), "nothing was executed");
    assert_eq!(failure(on_error::EXEC, on_error::EXEC), (0, ENOSYS), "the first error");
    assert_eq!(failure(on_error::GONE, on_error::FAIL), (0, ENOSYS), "only ENOENT means gone");
}

#[test]
fn a_message_is_read_back_from_its_bytes() {
    let mut sent = Message::failed(3, 17, 2);
    sent.usage = [1, u64::MAX, 1 << 40];
    let bytes: [u8; size_of::<Message>()] = [
        &sent.kind.to_ne_bytes()[..],
        &sent.value.to_ne_bytes(),
        &sent.errno.to_ne_bytes(),
        &sent.stage.to_ne_bytes(),
        sent.usage.map(u64::to_ne_bytes).as_flattened(),
    ]
    .concat()
    .try_into()
    .expect("no padding");
    let read = Message::from_bytes(&bytes);
    assert_eq!((read.kind, read.value, read.errno, read.stage), (message::FAILED, 17, 2, 3));
    assert_eq!(read.usage, sent.usage);
}

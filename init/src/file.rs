//! Small files, by raw system calls.

use minidocker_init::raw::{nr, syscall};

/// Room for the longest: "/proc/self/fdinfo/2147483647".
const PATH: usize = 40;

const AT_FDCWD: u64 = -100_i64 as u64;
const READ_ONLY_CLOEXEC: u64 = 0o2_000_000;

/// `before`, the number in decimal, `after`, and a NUL.
pub(crate) fn path(before: &[u8], number: i32, after: &[u8]) -> Option<[u8; PATH]> {
    let mut digits = [0_u8; 10];
    let mut first = digits.len();
    let mut rest = number.unsigned_abs();
    loop {
        first -= 1;
        *digits.get_mut(first)? = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    let mut path = [0; PATH];
    let mut places = path.iter_mut();
    for &byte in before.iter().chain(digits.get(first..)?).chain(after).chain(&[0]) {
        *places.next()? = byte;
    }
    Some(path)
}

/// Opens a file to read; the path ends in a NUL.
pub(crate) fn open(path: &[u8]) -> Option<i32> {
    let place = path.as_ptr() as u64;
    // SAFETY: reads the path, which ends in a NUL.
    let opened = unsafe { syscall(nr::OPENAT, [AT_FDCWD, place, READ_ONLY_CLOEXEC, 0, 0, 0]) };
    opened.ok().map(|descriptor| descriptor as i32)
}

/// The start of a file, as much as the buffer holds: these files come whole in one read.
pub(crate) fn read<'a>(path: &[u8], buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    let file = open(path)?;
    let args = [file as u64, buffer.as_mut_ptr() as u64, buffer.len() as u64, 0, 0, 0];
    // SAFETY: the kernel writes at most the buffer's length into it.
    let length = unsafe { syscall(nr::READ, args) };
    close(file);
    buffer.get(..length.ok()?)
}

pub(crate) fn close(descriptor: i32) {
    // SAFETY: takes no pointer; the descriptor is this process's own.
    let _ = unsafe { syscall(nr::CLOSE, [descriptor as u64, 0, 0, 0, 0, 0]) };
}

//! Small files, by raw system calls.

use crate::raw::{nr, syscall};

/// Room for the longest: "/proc/self/fdinfo/2147483647".
const PATH: usize = 40;

const AT_FDCWD: u64 = -100_i64 as u64;
const READ_ONLY_CLOEXEC: u64 = 0o2_000_000;
const WRITE_ONLY_CLOEXEC: u64 = 0o2_000_001;

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
    open_with(path, READ_ONLY_CLOEXEC)
}

/// Opens a file to write; the path ends in a NUL.
pub(crate) fn open_to_write(path: &[u8]) -> Option<i32> {
    open_with(path, WRITE_ONLY_CLOEXEC)
}

fn open_with(path: &[u8], flags: u64) -> Option<i32> {
    let place = path.as_ptr() as u64;
    // SAFETY: reads the path, which ends in a NUL.
    let opened = unsafe { syscall(nr::OPENAT, [AT_FDCWD, place, flags, 0, 0, 0]) };
    opened.ok().map(|descriptor| descriptor as i32)
}

/// Writes it all at once, as files in /proc want it.
pub(crate) fn write(file: i32, content: &[u8]) -> Option<()> {
    let args = [file as u64, content.as_ptr() as u64, content.len() as u64, 0, 0, 0];
    // SAFETY: the kernel reads the content.
    let written = unsafe { syscall(nr::WRITE, args) };
    (written == Ok(content.len())).then_some(())
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

/// Closes those that there are: -1 stands for none.
pub(crate) fn close_all(descriptors: &[i32]) {
    descriptors.iter().copied().filter(|&descriptor| descriptor >= 0).for_each(close);
}

pub(crate) fn close(descriptor: i32) {
    // SAFETY: takes no pointer; the descriptor is this process's own.
    let _ = unsafe { syscall(nr::CLOSE, [descriptor as u64, 0, 0, 0, 0, 0]) };
}

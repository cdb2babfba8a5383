//! Reading of small files by raw system calls.

use minidocker_init::raw::{nr, syscall};

const AT_FDCWD: u64 = -100_i64 as u64;
const READ_ONLY_CLOEXEC: u64 = 0o2_000_000;

/// Open a file for reading; the path ends in a NUL.
pub(crate) fn open(path: &[u8]) -> Option<i32> {
    let place = path.as_ptr() as u64;
    // SAFETY: the kernel reads the path, which ends in a NUL.
    let opened = unsafe { syscall(nr::OPENAT, [AT_FDCWD, place, READ_ONLY_CLOEXEC, 0, 0, 0]) };
    opened.ok().map(|descriptor| descriptor as i32)
}

/// Read the start of a file.
///
/// One read of a /proc file returns its whole content or fills the buffer.
pub(crate) fn read<'a>(path: &[u8], buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    let file = open(path)?;
    let args = [file as u64, buffer.as_mut_ptr() as u64, buffer.len() as u64, 0, 0, 0];
    // SAFETY: the kernel writes at most the buffer's length into it.
    let length = unsafe { syscall(nr::READ, args) };
    close(file);
    buffer.get(..length.ok()?)
}

/// Return the inode of an open file, which identifies a namespace, or a process behind a pidfd.
pub(crate) fn inode(descriptor: i32) -> Option<u64> {
    // The kernel's `struct stat` fits into this; its second word is the inode.
    let mut found = [0_u64; 18];
    let place = found.as_mut_ptr() as u64;
    // SAFETY: the kernel writes one structure.
    unsafe { syscall(nr::FSTAT, [descriptor as u64, place, 0, 0, 0, 0]) }.ok()?;
    Some(found[1])
}

pub(crate) fn close(descriptor: i32) {
    // SAFETY: takes no pointer; the descriptor is this process's own.
    let _ = unsafe { syscall(nr::CLOSE, [descriptor as u64, 0, 0, 0, 0, 0]) };
}

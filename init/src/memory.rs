//! The three functions of a C library that compiled code calls by itself.
//!
//! They go byte by byte: the helper copies and clears little memory.

/// # Safety
///
/// `memset(3)`: `length` bytes at `to` are the caller's to write.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, value: i32, length: usize) -> *mut u8 {
    for index in 0..length {
        // SAFETY: inside the caller's bytes.
        let place = unsafe { to.add(index) };
        // Volatile, because the compiler turns a plain loop into a call of memset.
        // SAFETY: as above.
        unsafe { place.write_volatile(value as u8) };
    }
    to
}

/// # Safety
///
/// `memcpy(3)`: `length` bytes at `from` can be read, those at `to` written, and they do not overlap.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    for index in 0..length {
        // SAFETY: inside the caller's bytes.
        let source = unsafe { from.add(index) };
        // SAFETY: as above.
        let byte = unsafe { source.read_volatile() };
        // SAFETY: as above.
        let place = unsafe { to.add(index) };
        // SAFETY: as above.
        unsafe { place.write_volatile(byte) };
    }
    to
}

/// # Safety
///
/// `bcmp(3)`: `length` bytes at both places can be read.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(one: *const u8, other: *const u8, length: usize) -> i32 {
    for index in 0..length {
        // SAFETY: inside the caller's bytes.
        let one = unsafe { one.add(index) };
        // SAFETY: as above.
        let other = unsafe { other.add(index) };
        // SAFETY: as above.
        let byte = unsafe { one.read_volatile() };
        // SAFETY: as above.
        if byte != unsafe { other.read_volatile() } {
            return 1;
        }
    }
    0
}

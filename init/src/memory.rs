//! The three C library functions that the compiler calls implicitly.
//!
//! They work byte by byte, because the helper copies and clears little memory.

/// # Safety
///
/// As for `memset(3)`: `to` is valid for writes of `length` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, value: i32, length: usize) -> *mut u8 {
    for index in 0..length {
        // SAFETY: inside the caller's bytes.
        let place = unsafe { to.add(index) };
        // Volatile: the compiler would turn a plain loop into a call of memset.
        // SAFETY: as above.
        unsafe { place.write_volatile(value as u8) };
    }
    to
}

/// # Safety
///
/// As for `memcpy(3)`: `from` is valid for reads and `to` for writes of `length` bytes, and the two do not
/// overlap.
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
/// As for `bcmp(3)`: both pointers are valid for reads of `length` bytes.
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

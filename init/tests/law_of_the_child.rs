//! The code between clone and exec keeps its law.
//!
//! The compiler enforces the law, since the helper is compiled from the same files without std, alloc, libc
//! and an unwinder. These tests check the compiled helper, and the source for code hidden behind a `cfg`.

use std::fs;
use std::path::Path;

use minidocker_init::HELPER;

const FILES: [&str; 3] = ["child.rs", "program.rs", "raw.rs"];
/// Text that would compile in the library but is not allowed in the child.
const FORBIDDEN: [&str; 14] = [
    "std::",
    "alloc::",
    "libc::",
    "nix::",
    "rustix::",
    "extern crate",
    "cfg(test)",
    "cfg(not(test",
    "format!",
    "vec!",
    "println!",
    "panic!",
    ".unwrap()",
    ".expect(",
];

#[test]
fn the_child_uses_core_alone() {
    for name in FILES {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(name);
        let text = fs::read_to_string(&path).expect("a source file");
        let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
        for (number, line) in code.enumerate() {
            for word in FORBIDDEN {
                assert!(!line.contains(word), "{name}:{}: {word} in {line:?}", number + 1);
            }
            let used = line.trim_start().strip_prefix("use ");
            let is_known = |used: &str| used.starts_with("core::") || used.starts_with("crate::");
            assert!(used.is_none_or(is_known), "{name}:{}: {line:?}", number + 1);
        }
    }
}

/// Return a 64-bit ELF file's entry point and program headers: (type, flags, virtual address).
fn program_headers(file: &[u8]) -> (u64, Vec<(u32, u32, u64)>) {
    let half = |at: usize| u16::from_le_bytes(file[at..at + 2].try_into().expect("two bytes"));
    let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().expect("four bytes"));
    let long = |at: usize| u64::from_le_bytes(file[at..at + 8].try_into().expect("eight bytes"));
    let (table, size, count) = (long(32) as usize, half(54) as usize, half(56) as usize);
    let header = |index| {
        let at = table + index * size;
        (word(at), word(at + 4), long(at + 16))
    };
    (long(24), (0..count).map(header).collect())
}

#[test]
fn the_helper_is_small_and_static_and_maps_nothing_writable_and_executable() {
    const PT_DYNAMIC: u32 = 2;
    const PT_INTERP: u32 = 3;
    const PT_TLS: u32 = 7;
    const PT_GNU_STACK: u32 = 0x6474_e551;
    const WRITABLE_AND_EXECUTABLE: u32 = 3;
    const EXECUTABLE: u32 = 1;
    let file = HELPER;
    assert_eq!(&file[..5], b"\x7fELF\x02");
    assert!(file.len() < 16 * 1024, "{} bytes are more than a few kilobytes", file.len());
    let (entry, headers) = program_headers(file);
    assert_ne!(entry, 0);
    for (kind, flags, _) in headers {
        assert!(![PT_DYNAMIC, PT_INTERP, PT_TLS].contains(&kind), "a header of type {kind}");
        assert_ne!(flags & WRITABLE_AND_EXECUTABLE, WRITABLE_AND_EXECUTABLE);
        assert!(kind != PT_GNU_STACK || flags & EXECUTABLE == 0);
    }
}

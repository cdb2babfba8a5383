//! Writes the table of system calls that the crate includes.

use std::collections::BTreeMap;
use std::path::Path;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let output = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    let table = Path::new(&output).join("syscall_table.rs");
    fs::write(table, syscall_table()).expect("OUT_DIR is writable");
}

/// Return the rows of `src/spec/seccomp/syscalls.rs`, ordered by name.
///
/// Names and numbers come from the crate `syscalls`, which is generated from the kernel's tables.
fn syscall_table() -> String {
    // The crate's own iterator omits the last call.
    macro_rules! calls {
        ($arch:ident) => {{
            use syscalls::$arch::Sysno;
            (Sysno::first().id()..=Sysno::last().id())
                .filter_map(|number| Sysno::new(number as usize))
                .map(|call| (call.name().trim_start_matches("r#"), call.id() as u32))
                .collect::<Vec<_>>()
        }};
    }
    // The architectures of filters, in the order of `Arch::column`.
    let mut columns = [calls!(x86_64), calls!(x86), calls!(aarch64), calls!(arm)];
    // The kernel's table for ARM lacks a second name and the private calls of asm/unistd.h.
    columns[3].extend([
        ("sync_file_range2", 341),
        ("breakpoint", 0x000f_0001),
        ("cacheflush", 0x000f_0002),
        ("usr26", 0x000f_0003),
        ("usr32", 0x000f_0004),
        ("set_tls", 0x000f_0005),
        ("get_tls", 0x000f_0006),
    ]);
    // A profile may also name calls of other architectures.
    let others =
        [calls!(mips), calls!(powerpc), calls!(riscv32), calls!(s390x), calls!(sparc64)].concat();

    let mut table: BTreeMap<&str, [Option<u32>; 4]> =
        others.into_iter().map(|(name, _)| (name, [None; 4])).collect();
    for (column, calls) in columns.into_iter().enumerate() {
        for (name, number) in calls {
            table.entry(name).or_default()[column] = Some(number);
        }
    }
    let rows = table.iter().map(|(name, numbers)| format!("Row({name:?}, {numbers:?}),\n"));
    format!("[\n{}]\n", rows.collect::<String>())
}

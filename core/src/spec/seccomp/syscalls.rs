//! System calls by name and by number.

use std::fmt;
use std::str::FromStr;

use super::Arch;
use crate::spec::nearest::nearest;

/// A name, and its numbers in the order of [`Arch::column`]; `None` if the architecture lacks the call.
struct Row(&'static str, [Option<u32>; 4]);

/// Every name that Linux has on any architecture, ordered by name. The build script writes this table.
#[expect(clippy::unreadable_literal, reason = "written by a program")]
static TABLE: &[Row] = &include!(concat!(env!("OUT_DIR"), "/syscall_table.rs"));

/// A system call that Linux has on some architecture: a row of the table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Syscall(u16);

impl Syscall {
    /// Return its name in the kernel.
    #[must_use]
    pub fn name(self) -> &'static str {
        TABLE[usize::from(self.0)].0
    }

    /// Return its number; `None` if the architecture lacks the call.
    #[must_use]
    pub fn number(self, arch: Arch) -> Option<u32> {
        TABLE[usize::from(self.0)].1[arch.column()]
    }

    /// Return the call with this number.
    #[must_use]
    pub fn from_number(arch: Arch, number: u32) -> Option<Self> {
        Self::all().find(|call| call.number(arch) == Some(number))
    }

    /// Return every call of the table, ordered by name.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..TABLE.len() as u16).map(Self)
    }

    /// Return the calls in a built-in list of names with white space between them.
    pub(super) fn listed(names: &str) -> Vec<Self> {
        names
            .split_ascii_whitespace()
            .map(|name| name.parse().expect("the built-in lists name calls of the table"))
            .collect()
    }
}

impl fmt::Display for Syscall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Syscall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The error for an unknown name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownSyscall {
    /// The nearest known name.
    pub nearest: Option<&'static str>,
}

impl UnknownSyscall {
    /// Return the remedy.
    pub(super) fn remedy(self) -> String {
        self.nearest.map_or_else(
            || "Leave it out; syscalls(2) lists them".to_owned(),
            |nearest| format!("Did you mean {nearest:?}?"),
        )
    }
}

impl FromStr for Syscall {
    type Err = UnknownSyscall;

    fn from_str(name: &str) -> Result<Self, UnknownSyscall> {
        TABLE
            .binary_search_by(|row| row.0.cmp(name))
            .map(|row| Self(row as u16))
            .map_err(|_| UnknownSyscall { nearest: nearest(name, TABLE.iter().map(|row| row.0)) })
    }
}

#[cfg(test)]
mod tests {
    use super::{Syscall, TABLE};
    use crate::spec::seccomp::Arch;

    #[test]
    fn the_table_is_ordered_by_name() {
        assert!(TABLE.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn every_architecture_has_its_own_numbers() {
        for (name, numbers) in [
            ("read", [Some(0), Some(3), Some(63), Some(3)]),
            ("mmap2", [None, Some(192), None, Some(192)]),
            ("mseal", [Some(462); 4]),
            // The last of its table.
            ("file_setattr", [Some(469); 4]),
            ("break", [None, Some(17), None, None]),
            ("set_tls", [None, None, None, Some(0x000f_0005)]),
            ("s390_runtime_instr", [None; 4]),
        ] {
            let call: Syscall = name.parse().unwrap();
            let arches = [Arch::X86_64, Arch::X86, Arch::Aarch64, Arch::Arm];
            assert_eq!(arches.map(|arch| call.number(arch)), numbers, "{name}");
        }
    }

    #[test]
    fn the_c_library_agrees_on_this_architecture() {
        let arch = Arch::NATIVE.unwrap();
        for (name, number) in [
            ("read", libc::SYS_read),
            ("clone3", libc::SYS_clone3),
            ("ptrace", libc::SYS_ptrace),
            ("mount_setattr", libc::SYS_mount_setattr),
            ("socket", libc::SYS_socket),
        ] {
            assert_eq!(name.parse::<Syscall>().unwrap().number(arch), Some(number as u32));
        }
    }

    #[test]
    fn a_call_is_found_by_number_and_an_unknown_name_has_a_nearest_one() {
        let call = Syscall::from_number(Arch::X86_64, 101).unwrap();
        assert_eq!((call.name(), call.to_string().as_str()), ("ptrace", "ptrace"));
        assert_eq!(Syscall::from_number(Arch::X86_64, 100_000), None);
        assert_eq!("ptarce".parse::<Syscall>().unwrap_err().nearest, Some("ptrace"));
        assert_eq!("qwertyuiop".parse::<Syscall>().unwrap_err().nearest, None);
        // A call of another architecture.
        assert_eq!("swapcontext".parse::<Syscall>().unwrap().number(Arch::X86_64), None);
    }
}

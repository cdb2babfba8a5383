//! System calls by name and by number.

use std::fmt;
use std::str::FromStr;

use super::Arch;
use super::syscall_table::TABLE;
use crate::spec::nearest::nearest;

/// A name, and its numbers in the order of [`Arch::column`].
pub(super) struct Row(pub(super) &'static str, pub(super) [u32; 4]);

/// No such system call on that architecture.
pub(super) const NONE: u32 = u32::MAX;

/// A system call that Linux has on some architecture: a row of the table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Syscall(u16);

impl Syscall {
    /// Its name, as the kernel has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        TABLE[usize::from(self.0)].0
    }

    /// Its number; `None` where the architecture does not have it.
    #[must_use]
    pub fn number(self, arch: Arch) -> Option<u32> {
        Some(TABLE[usize::from(self.0)].1[arch.column()]).filter(|&number| number != NONE)
    }

    /// The call with this number.
    #[must_use]
    pub fn from_number(arch: Arch, number: u32) -> Option<Self> {
        Self::all().find(|call| call.number(arch) == Some(number))
    }

    /// Every call of the table, in the order of the names.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..TABLE.len() as u16).map(Self)
    }

    /// The calls in a list of names with white space between them, all known to be in the table.
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

/// A name that no system call has, and the one that it is nearest to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownSyscall {
    /// The name that may have been meant.
    pub nearest: Option<&'static str>,
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
    fn the_table_is_in_the_order_of_the_names() {
        assert!(TABLE.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn the_table_has_the_numbers_that_the_kernels_own_tables_have() {
        fn check(arch: Arch, theirs: impl Iterator<Item = (&'static str, u32)>) {
            let mut count = 0;
            for (name, number) in theirs {
                let name = name.trim_start_matches("r#");
                let call: Syscall = name.parse().unwrap_or_else(|_| panic!("{name} is missing"));
                assert_eq!(call.number(arch), Some(number), "{name} on {arch:?}");
                count += 1;
            }
            let private = |number| number >= 0x000f_0000;
            let ours = Syscall::all().filter_map(|call| call.number(arch)).filter(|&n| !private(n));
            // sync_file_range2 is a second name of arm_sync_file_range.
            assert_eq!(ours.count(), count + usize::from(arch == Arch::Arm), "{arch:?}");
        }
        // Their own iterators skip a number.
        macro_rules! theirs {
            ($arch:ident) => {
                (0..=syscalls::$arch::Sysno::last().id())
                    .filter_map(|id| syscalls::$arch::Sysno::new(id as usize))
                    .map(|call| (call.name(), call.id() as u32))
            };
        }
        check(Arch::X86_64, theirs!(x86_64));
        check(Arch::X86, theirs!(x86));
        check(Arch::Aarch64, theirs!(aarch64));
        check(Arch::Arm, theirs!(arm));
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
    fn a_call_is_found_by_number_and_an_unknown_name_by_its_nearest() {
        let call = Syscall::from_number(Arch::X86_64, 101).unwrap();
        assert_eq!((call.name(), call.to_string().as_str()), ("ptrace", "ptrace"));
        assert_eq!(Syscall::from_number(Arch::X86_64, 100_000), None);
        assert_eq!("ptarce".parse::<Syscall>().unwrap_err().nearest, Some("ptrace"));
        assert_eq!("qwertyuiop".parse::<Syscall>().unwrap_err().nearest, None);
        // Known, though not here.
        assert_eq!("swapcontext".parse::<Syscall>().unwrap().number(Arch::X86_64), None);
    }
}

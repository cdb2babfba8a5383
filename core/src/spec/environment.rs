//! The environment of a command.

use std::ffi::{CStr, CString};

use crate::sys;

/// `NAME=value` lines, as for execve(2).
///
/// One buffer holds all lines, because most commands have their caller's environment, which has many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// The lines, each with its NUL.
    lines: Vec<u8>,
}

impl Environment {
    /// Return a copy of the calling process's environment.
    ///
    /// Code that changes the environment must ensure that no other thread reads it meanwhile.
    /// [`std::env::set_var`], which is unsafe for this reason, and `setenv(3)` require this. An
    /// interpreter holds its lock for both.
    #[must_use]
    pub fn of_caller() -> Self {
        Self { lines: sys::environment() }
    }

    /// Append a line.
    pub fn push(&mut self, line: &CStr) {
        self.lines.extend_from_slice(line.to_bytes_with_nul());
    }

    /// Return a copy without the variables of these names.
    #[must_use]
    pub fn without(&self, names: &[&str]) -> Self {
        let name = |line: &[u8]| line.iter().position(|&byte| byte == b'=').unwrap_or(line.len());
        let is_kept = |line: &&[u8]| !names.iter().any(|n| n.as_bytes() == &line[..name(line)]);
        let kept = self.lines().filter(is_kept);
        Self { lines: kept.flat_map(|line| [line, b"\0"]).flatten().copied().collect() }
    }

    /// Return each line, without its NUL.
    pub(crate) fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.lines.split(|&byte| byte == 0).filter(|line| !line.is_empty())
    }

    /// Return the lines in sequence, each with its NUL.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.lines
    }
}

impl FromIterator<CString> for Environment {
    fn from_iter<T: IntoIterator<Item = CString>>(lines: T) -> Self {
        let mut environment = Self::default();
        lines.into_iter().for_each(|line| environment.push(&line));
        environment
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_lacks_only_the_named_variables() {
        let all = [c"A=1", c"AB=2", c"B=A=3", c""];
        let environment: Environment = all.map(CString::from).into_iter().collect();
        assert_eq!(environment.without(&["A", "C"]).as_bytes(), b"AB=2\0B=A=3\0");
    }

    #[test]
    fn the_callers_environment_is_what_the_kernel_gave_it() {
        let given = std::fs::read("/proc/self/environ").expect("the initial environment");
        assert_eq!(Environment::of_caller().as_bytes(), given);
        assert!(given.ends_with(b"\0"), "cargo sets variables");
    }
}

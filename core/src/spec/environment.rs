//! The environment of a command.

use std::ffi::{CStr, CString};

use crate::sys;

/// `NAME=value` lines, as execve(2) takes them. They are kept one after the other: most commands have their
/// caller's, which has many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// Each with its NUL.
    lines: Vec<u8>,
}

impl Environment {
    /// The calling process's, as it is.
    ///
    /// Whoever changes the environment has to see to it that no other thread reads it meanwhile: that is
    /// what [`std::env::set_var`], which is unsafe for this reason, and `setenv(3)` ask for. An interpreter
    /// does both with its lock held.
    #[must_use]
    pub fn of_caller() -> Self {
        Self { lines: sys::environment() }
    }

    /// Appends a line.
    pub fn push(&mut self, line: &CStr) {
        self.lines.extend_from_slice(line.to_bytes_with_nul());
    }

    /// The lines, one after the other, each with its NUL.
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
    fn the_callers_environment_is_what_the_kernel_gave_it() {
        let given = std::fs::read("/proc/self/environ").expect("the first environment");
        assert_eq!(Environment::of_caller().as_bytes(), given);
        assert!(given.ends_with(b"\0"), "cargo gives some");
    }
}

//! The environment of a command.

use std::borrow::Cow;
use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use super::{MountKind, Spec};
use crate::sys;

/// `NAME=value` lines, as for execve(2).
///
/// One buffer holds all lines, because most commands have their caller's environment, which has many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// The lines, each with its NUL.
    lines: Vec<u8>,
    /// The length of the caller's lines at the front, of which the command gets those that its profile lets it inherit.
    inherited: usize,
}

impl Environment {
    /// Return a copy of the calling process's environment, from which a command inherits what its profile allows.
    ///
    /// Code that changes the environment must ensure that no other thread reads it meanwhile.
    /// [`std::env::set_var`], which is unsafe for this reason, and `setenv(3)` require this. An
    /// interpreter holds its lock for both.
    #[must_use]
    pub fn of_caller() -> Self {
        let lines = sys::environment();
        Self { inherited: lines.len(), lines }
    }

    /// Append a line.
    pub fn push(&mut self, line: &CStr) {
        self.lines.extend_from_slice(line.to_bytes_with_nul());
    }

    /// Return a copy without the variables of these names.
    #[must_use]
    pub fn without(&self, names: &[&str]) -> Self {
        let is_kept = |line: &&[u8]| {
            let name = line.split(|&byte| byte == b'=').next();
            !names.iter().any(|other| Some(other.as_bytes()) == name)
        };
        let kept = |lines: &[u8]| -> Vec<u8> {
            let lines = lines.split_inclusive(|&byte| byte == 0);
            lines.filter(is_kept).flatten().copied().collect()
        };
        let (inherited, own) = self.lines.split_at(self.inherited);
        let (mut lines, own) = (kept(inherited), kept(own));
        let inherited = lines.len();
        lines.extend(own);
        Self { lines, inherited }
    }

    /// Return the same lines as a command's own, of which no profile takes any away.
    #[must_use]
    pub fn as_given(self) -> Self {
        Self { inherited: 0, ..self }
    }

    /// Return the lines that a command gets in this container, in sequence, each with its NUL.
    pub(crate) fn lines_for(&self, spec: &Spec) -> Cow<'_, [u8]> {
        let (inherited, own) = self.lines.split_at(self.inherited);
        if inherited.is_empty() || spec.confine.profile.confinement().inherited_variables.is_none()
        {
            return Cow::Borrowed(&self.lines);
        }
        let inherits = |line: &&[u8]| {
            let line = line.strip_suffix(b"\0").unwrap_or(line);
            let equals = line.iter().position(|byte| *byte == b'=');
            equals.is_some_and(|at| spec.inherits_variable(&line[..at], &line[at + 1..]))
        };
        let inherited = inherited.split_inclusive(|byte| *byte == 0).filter(inherits);
        Cow::Owned(inherited.chain([own]).flatten().copied().collect())
    }
}

impl FromIterator<CString> for Environment {
    fn from_iter<T: IntoIterator<Item = CString>>(lines: T) -> Self {
        let mut environment = Self::default();
        lines.into_iter().for_each(|line| environment.push(&line));
        environment
    }
}

impl Spec {
    /// Return whether a command without an environment of its own inherits this variable of the caller.
    #[must_use]
    pub fn inherits_variable(&self, name: &[u8], value: &[u8]) -> bool {
        let Some(names) = self.confine.profile.confinement().inherited_variables else {
            return true;
        };
        let matches = |pattern: &&str| match pattern.strip_suffix('*') {
            Some(start) => name.starts_with(start.as_bytes()),
            None => name == pattern.as_bytes(),
        };
        names.iter().any(matches) && (name != b"TMPDIR" || self.has_directory(value))
    }

    /// Whether this is one of the profile's private directories, the target of a mount, or in a bound directory.
    fn has_directory(&self, path: &[u8]) -> bool {
        let path = Path::new(OsStr::from_bytes(path));
        // Only the kernel can tell where `..` leads.
        if path.components().any(|component| component == Component::ParentDir) {
            return false;
        }
        let view = self.confine.profile.confinement().view;
        let is_private =
            view.is_some_and(|view| view.private.iter().any(|one| path == Path::new(one)));
        is_private
            || self.mounts.iter().filter(|mount| !mount.read_only).any(|mount| {
                let target = Path::new(OsStr::from_bytes(mount.target.to_bytes()));
                path == target
                    || (matches!(mount.kind, MountKind::Bind { .. }) && path.starts_with(target))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Mount;
    use crate::spec::profile::Profile;

    fn untrusted() -> Spec {
        let mut spec = Spec::default();
        spec.confine.profile = Profile::Untrusted;
        spec
    }

    #[test]
    fn a_copy_lacks_only_the_named_variables() {
        let all = [c"A=1", c"AB=2", c"B=A=3"];
        let environment: Environment = all.map(CString::from).into_iter().collect();
        let left = environment.without(&["A", "C"]);
        assert_eq!(*left.lines_for(&Spec::default()), *b"AB=2\0B=A=3\0");
    }

    #[test]
    fn the_callers_environment_is_what_the_kernel_gave_it() {
        let given = std::fs::read("/proc/self/environ").expect("the initial environment");
        assert_eq!(*Environment::of_caller().lines_for(&Spec::default()), given);
        assert!(given.ends_with(b"\0"), "cargo sets variables");
    }

    #[test]
    fn an_environment_that_is_given_is_exactly_what_the_command_gets() {
        let given: Environment =
            [c"TOKEN=1".into(), c"no equals sign".into()].into_iter().collect();
        assert_eq!(*given.lines_for(&untrusted()), b"TOKEN=1\0no equals sign\0"[..]);
    }

    #[test]
    fn untrusted_inherits_the_listed_variables_only() {
        let lines = b"PATH=/bin\0TOKEN=1\0LC_ALL=C\0LC=C\0TMPDIR=/home/u/tmp\0PATHS=1\0TZ=\0HOME\0";
        let mut environment = Environment { lines: lines.to_vec(), inherited: lines.len() };
        assert_eq!(*environment.lines_for(&untrusted()), b"PATH=/bin\0LC_ALL=C\0TZ=\0"[..]);
        assert_eq!(*environment.lines_for(&Spec::default()), lines[..]);
        environment.push(c"TOKEN=2");
        assert_eq!(
            *environment.lines_for(&untrusted()),
            b"PATH=/bin\0LC_ALL=C\0TZ=\0TOKEN=2\0"[..]
        );
    }

    #[test]
    fn tmpdir_is_inherited_where_the_container_has_the_directory() {
        let mut spec = untrusted();
        let bind = |source: &CStr| MountKind::Bind { source: source.into() };
        spec.mounts = vec![
            Mount::new(c"/data", bind(c"/srv")),
            Mount { read_only: true, ..Mount::new(c"/fixed", bind(c"/srv")) },
            Mount::new(c"/memory", MountKind::Tmpfs { size: None, mode: 0o1777 }),
        ];
        for (value, inherited) in [
            ("/tmp", true),
            ("/tmp/", true),
            ("/var/tmp", true),
            ("/tmp/mine", false),
            ("/tmp/..", false),
            ("/data", true),
            ("/data/tmp", true),
            ("/database", false),
            ("/data/../root", false),
            ("/fixed", false),
            ("/memory", true),
            ("/memory/tmp", false),
            ("tmp", false),
            ("", false),
        ] {
            assert_eq!(spec.inherits_variable(b"TMPDIR", value.as_bytes()), inherited, "{value}");
        }
    }
}

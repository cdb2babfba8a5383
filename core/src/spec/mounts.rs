//! The files that a container sees: what is mounted where, and where writes go.

use std::ffi::{CStr, CString};
use std::sync::Arc;

use crate::error::{Reason, ReasonKind, SpecError};
use crate::spec::nearest::nearest_or;

/// Where the writes to the root go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Overlay {
    /// Into the root itself.
    #[default]
    None,
    /// Into a layer in memory that goes with the container.
    Discard,
    /// Into a layer in this directory.
    Keep(CString),
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountKind {
    /// A file or directory of the host's, with everything mounted below it.
    Bind {
        /// Its path outside.
        source: CString,
    },
    /// A file system in memory.
    Tmpfs {
        /// Its largest size in bytes; `None`: half of the memory, as the kernel has it.
        size: Option<u64>,
        /// The mode of its top directory.
        mode: u32,
    },
    /// Directories of the host's on top of each other, with writes to none of them.
    Overlay {
        /// The directories outside, the uppermost first.
        lower: Vec<CString>,
        /// The directory outside that keeps the writes; `None`: they go with the container.
        upper: Option<CString>,
    },
    /// A proc of the container's PID namespace.
    Proc,
    /// A sysfs of the container's network namespace.
    Sysfs,
    /// Pseudo terminals of its own.
    Devpts,
    /// Message queues of the container's IPC namespace.
    Mqueue,
    /// A file with this content.
    Content {
        /// The content.
        bytes: Arc<[u8]>,
        /// The mode of the file.
        mode: u32,
    },
}

impl MountKind {
    /// The name that a `Mount` has for it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Bind { .. } => "bind",
            Self::Tmpfs { .. } => "tmpfs",
            Self::Overlay { .. } => "overlay",
            Self::Proc => "proc",
            Self::Sysfs => "sysfs",
            Self::Devpts => "devpts",
            Self::Mqueue => "mqueue",
            Self::Content { .. } => "content",
        }
    }

    /// What it may be told beside flags, as `name=value`.
    const fn parameters(&self) -> &'static [&'static str] {
        match self {
            Self::Tmpfs { .. } => &["size", "mode", "uid", "gid", "nr_blocks", "nr_inodes", "huge"],
            Self::Proc => &["hidepid", "gid", "subset"],
            Self::Devpts => &["mode", "uid", "gid", "ptmxmode", "max"],
            _ => &[],
        }
    }
}

/// One mount of a container's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The option that asked for it: `"mounts"`, `"tmpfs"` or `"devices"`.
    pub option: &'static str,
    /// An absolute path inside.
    pub target: CString,
    /// What is mounted.
    pub kind: MountKind,
    /// Whether nobody inside can write to it, or to anything mounted below it.
    pub read_only: bool,
    /// More options as mount(8) has them, separated by commas: `noexec`, `size=64m`.
    pub options: String,
}

/// The options of a mount, understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MountOptions {
    pub(crate) read_only: bool,
    pub(crate) no_suid: bool,
    pub(crate) no_dev: bool,
    pub(crate) no_exec: bool,
    /// Whether devices in it are asked for by name.
    pub(crate) devices: bool,
    /// What is left for the file system, `name=value` each.
    pub(crate) parameters: Vec<(String, String)>,
}

const FLAGS: [&str; 8] = ["ro", "rw", "nosuid", "suid", "nodev", "dev", "noexec", "exec"];

impl Mount {
    /// What an error shows.
    pub(crate) fn shown(&self) -> String {
        format!("{:?}", self.target.to_string_lossy())
    }

    /// Parses `options`.
    ///
    /// # Errors
    ///
    /// [`SpecError`] for an option that does not exist, with the nearest one that does, and for
    /// options that contradict each other.
    pub(crate) fn parse_options(&self) -> Result<MountOptions, SpecError> {
        let kernels_own = !matches!(self.kind, MountKind::Bind { .. } | MountKind::Overlay { .. });
        let mut options = MountOptions {
            read_only: self.read_only,
            no_suid: kernels_own,
            // A devpts holds devices, and a file given in place may be a script.
            no_dev: kernels_own && self.kind != MountKind::Devpts,
            devices: false,
            no_exec: kernels_own && !matches!(self.kind, MountKind::Content { .. }),
            parameters: Vec::new(),
        };
        let wrong = |kind, reason: String, remedy: String| {
            SpecError::new(self.option, self.shown(), Reason::new(kind, reason), remedy)
        };
        let contradiction =
            |reason| wrong(ReasonKind::Contradiction, reason, "Give one of them".to_owned());
        let words = self.options.split(',').map(str::trim).filter(|word| !word.is_empty());
        let mut seen: Vec<&str> = Vec::new();
        for word in words {
            let (name, value) = word.split_once('=').map_or((word, None), |(n, v)| (n, Some(v)));
            if let Some(other) = seen.iter().find(|other| contradict(other, name)) {
                let reason = if *other == name {
                    format!("the option {name:?} is given twice")
                } else {
                    format!("the options {other:?} and {name:?} contradict each other")
                };
                return Err(contradiction(reason));
            }
            seen.push(name);
            match (name, value) {
                ("rw", None) if self.read_only => {
                    let reason = "the option \"rw\" contradicts read_only".to_owned();
                    return Err(contradiction(reason));
                }
                ("ro", None) => options.read_only = true,
                ("rw", None) => {}
                ("nosuid", None) => options.no_suid = true,
                ("suid", None) => options.no_suid = false,
                ("nodev", None) => options.no_dev = true,
                ("dev", None) => (options.no_dev, options.devices) = (false, true),
                ("noexec", None) => options.no_exec = true,
                ("exec", None) => options.no_exec = false,
                (name, Some(value)) if self.kind.parameters().contains(&name) => {
                    options.parameters.push((name.to_owned(), value.to_owned()));
                }
                _ => {
                    let parameters = self.kind.parameters();
                    let known = || FLAGS.iter().chain(parameters).copied();
                    let names = || known().collect::<Vec<_>>().join(", ");
                    let remedy = nearest_or(name, known(), || format!("There are: {}", names()));
                    let kind = self.kind.name();
                    let (mistake, reason) = if known().any(|known| known == name) {
                        let takes =
                            if value.is_some() { "no value" } else { "a value: name=value" };
                        (ReasonKind::Invalid, format!("the option {name:?} takes {takes}"))
                    } else {
                        let reason = format!("a mount of type {kind:?} has no option {name:?}");
                        (ReasonKind::UnknownName, reason)
                    };
                    return Err(wrong(mistake, reason, remedy));
                }
            }
        }
        Ok(options)
    }

    /// Where nothing is wrong with the target as a path: its components.
    pub(crate) fn components(&self) -> Result<Vec<&[u8]>, SpecError> {
        absolute(self.option, &self.target)
    }
}

/// Whether two options cannot stand together: the same twice, or a flag and its opposite.
fn contradict(one: &str, other: &str) -> bool {
    let opposite = |flag: &str, no: &str| no.strip_prefix("no") == Some(flag);
    one == other
        || matches!((one, other), ("ro", "rw") | ("rw", "ro"))
        || (FLAGS.contains(&one)
            && FLAGS.contains(&other)
            && (opposite(one, other) || opposite(other, one)))
}

/// The components of an absolute path without `..`.
fn absolute<'a>(option: &'static str, path: &'a CStr) -> Result<Vec<&'a [u8]>, SpecError> {
    let bytes = path.to_bytes();
    let wrong = |reason: &'static str, remedy: &'static str| {
        Err(SpecError::of_text(option, path.to_string_lossy(), reason, remedy))
    };
    if bytes.first() != Some(&b'/') {
        return wrong("the target is not an absolute path", "Begin it with a slash");
    }
    let components: Vec<&[u8]> =
        bytes.split(|&byte| byte == b'/').filter(|c| !c.is_empty() && *c != b".").collect();
    if components.iter().any(|component| *component == b"..") {
        return wrong(
            "the target has \"..\" in it",
            "Write the path that is meant: links inside are followed, and never lead outside",
        );
    }
    if components.is_empty() {
        return wrong("the target is the root itself", "Pass rootfs, overlay or read_only instead");
    }
    Ok(components)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tmpfs(options: &str) -> Mount {
        Mount {
            option: "tmpfs",
            target: c"/run".into(),
            kind: MountKind::Tmpfs { size: None, mode: 0o1777 },
            read_only: false,
            options: options.to_owned(),
        }
    }

    #[test]
    fn a_tmpfs_has_dockers_flags_until_it_is_told_otherwise() {
        let options = tmpfs("").parse_options().unwrap();
        assert!(options.no_exec && options.no_suid && options.no_dev && !options.read_only);
        let options = tmpfs("rw,exec,size=64m").parse_options().unwrap();
        assert!(!options.no_exec && options.no_suid);
        assert_eq!(options.parameters, [("size".to_owned(), "64m".to_owned())]);
    }

    #[test]
    fn a_wrong_option_gets_the_nearest_right_one() {
        let error = tmpfs("noexce").parse_options().unwrap_err();
        assert_eq!(error.remedy, "Did you mean \"noexec\"?".into());
        assert!(tmpfs("size").parse_options().unwrap_err().reason.text().contains("name=value"));
        assert!(
            tmpfs("exec,noexec").parse_options().unwrap_err().reason.text().contains("contradict")
        );
        assert!(tmpfs("ro,rw").parse_options().unwrap_err().reason.text().contains("contradict"));
        assert!(
            tmpfs("size=1,size=2").parse_options().unwrap_err().reason.text().contains("twice")
        );
    }

    #[test]
    fn a_target_is_absolute_and_says_what_it_means() {
        let components = |target: &CStr| {
            let mount = Mount { target: target.into(), ..tmpfs("") };
            mount
                .components()
                .map(|components| components.len())
                .map_err(|error| error.reason.to_string())
        };
        assert_eq!(components(c"/a//b/./c"), Ok(3));
        assert!(components(c"a/b").unwrap_err().contains("not an absolute path"));
        assert!(components(c"/a/../b").unwrap_err().contains("\"..\""));
        assert!(components(c"/").unwrap_err().contains("root itself"));
    }
}

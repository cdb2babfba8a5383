//! The files of a container: its mounts, and the place of writes to the root.

use std::ffi::{CStr, CString};
use std::sync::Arc;

use crate::error::{Reason, ReasonKind, SpecError};
use crate::spec::nearest::nearest_or;

/// The place of the writes to the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Overlay {
    /// The root itself.
    #[default]
    None,
    /// A layer in memory that ends with the container.
    Discard,
    /// A layer in this directory.
    Keep(CString),
}

/// The type of a mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountKind {
    /// A file or directory of the host, with the mounts below it.
    Bind {
        /// The path outside.
        source: CString,
    },
    /// A file system in memory.
    Tmpfs {
        /// The maximum size in bytes; `None` for the kernel's default, half of the memory.
        size: Option<u64>,
        /// The mode of its top directory.
        mode: u32,
    },
    /// Directories of the host on top of each other; writes leave them unchanged.
    Overlay {
        /// The directories outside, the uppermost first.
        lower: Vec<CString>,
        /// The directory outside that keeps the writes; `None` to discard them with the container.
        upper: Option<CString>,
    },
    /// The proc of the container's PID namespace.
    Proc,
    /// The sysfs of the container's network namespace.
    Sysfs,
    /// New pseudo terminals.
    Devpts,
    /// The message queues of the container's IPC namespace.
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
    /// Return the name of the type.
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

    /// Return the names of its options of the form `name=value`.
    const fn parameters(&self) -> &'static [&'static str] {
        match self {
            Self::Tmpfs { .. } => &["size", "mode", "uid", "gid", "nr_blocks", "nr_inodes", "huge"],
            Self::Proc => &["hidepid", "gid", "subset"],
            Self::Devpts => &["mode", "uid", "gid", "ptmxmode", "max"],
            _ => &[],
        }
    }
}

/// One mount of a container.
///
/// ```
/// use minidocker_core::spec::{Mount, MountKind};
///
/// let scratch = Mount::new(c"/scratch", MountKind::Tmpfs { size: None, mode: 0o1777 });
/// assert!(!scratch.read_only && scratch.options.is_empty());
/// let data = Mount {
///     read_only: true,
///     ..Mount::new(c"/data", MountKind::Bind { source: c"/srv/data".into() })
/// };
/// assert_eq!(data.target.as_c_str(), c"/data");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The option that it comes from: `"mounts"`, `"tmpfs"` or `"devices"`.
    pub option: &'static str,
    /// An absolute path inside.
    pub target: CString,
    /// The type.
    pub kind: MountKind,
    /// Whether it is read-only, with everything mounted below it.
    pub read_only: bool,
    /// Further options in the form of mount(8), separated by commas: `noexec,size=64m`.
    pub options: String,
}

/// The parsed options of a mount.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MountOptions {
    pub(crate) read_only: bool,
    pub(crate) no_suid: bool,
    pub(crate) no_dev: bool,
    pub(crate) no_exec: bool,
    /// Whether the option `dev` was given.
    pub(crate) devices: bool,
    /// The file system's own options, each as a name and a value.
    pub(crate) parameters: Vec<(String, String)>,
}

const FLAGS: [&str; 8] = ["ro", "rw", "nosuid", "suid", "nodev", "dev", "noexec", "exec"];

impl Mount {
    /// Return a writable mount at `target` without further options.
    pub fn new(target: impl Into<CString>, kind: MountKind) -> Self {
        Self {
            option: "mounts",
            target: target.into(),
            kind,
            read_only: false,
            options: String::new(),
        }
    }

    /// Return the target as an error message shows it.
    pub(crate) fn shown(&self) -> String {
        format!("{:?}", self.target.to_string_lossy())
    }

    /// Parse `options`.
    ///
    /// # Errors
    ///
    /// [`SpecError`] for an unknown option, with the nearest known one, and for options that contradict each
    /// other.
    pub(crate) fn parse_options(&self) -> Result<MountOptions, SpecError> {
        let kernels_own = !matches!(self.kind, MountKind::Bind { .. } | MountKind::Overlay { .. });
        let mut options = MountOptions {
            read_only: self.read_only,
            no_suid: kernels_own,
            // A devpts contains devices.
            no_dev: kernels_own && self.kind != MountKind::Devpts,
            devices: false,
            // A file with given content may be a script.
            no_exec: kernels_own && !matches!(self.kind, MountKind::Content { .. }),
            parameters: Vec::new(),
        };
        let wrong = |kind, reason: String, remedy: String| {
            SpecError::new(self.option, self.shown(), Reason::new(kind, reason), remedy)
        };
        let contradiction =
            |reason| wrong(ReasonKind::Contradiction, reason, "Keep one of them".to_owned());
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
                    let remedy =
                        nearest_or(name, known(), || format!("The options are {}", names()));
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

    /// Return the components of the target, which must be an absolute path without `..`.
    pub(crate) fn components(&self) -> Result<Vec<&[u8]>, SpecError> {
        absolute(self.option, &self.target)
    }
}

/// Return whether two options contradict each other: the same option twice, or a flag and its opposite.
fn contradict(one: &str, other: &str) -> bool {
    let opposite = |flag: &str, no: &str| no.strip_prefix("no") == Some(flag);
    one == other
        || matches!((one, other), ("ro", "rw") | ("rw", "ro"))
        || (FLAGS.contains(&one)
            && FLAGS.contains(&other)
            && (opposite(one, other) || opposite(other, one)))
}

/// Return the components of an absolute path without `..`.
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
            "the target contains \"..\"",
            "Write the path without it; symbolic links are followed inside the root only",
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
        let kind = MountKind::Tmpfs { size: None, mode: 0o1777 };
        Mount { options: options.to_owned(), ..Mount::new(c"/run", kind) }
    }

    #[test]
    fn a_tmpfs_has_dockers_flags_unless_an_option_changes_them() {
        let options = tmpfs("").parse_options().unwrap();
        assert!(options.no_exec && options.no_suid && options.no_dev && !options.read_only);
        let options = tmpfs("rw,exec,size=64m").parse_options().unwrap();
        assert!(!options.no_exec && options.no_suid);
        assert_eq!(options.parameters, [("size".to_owned(), "64m".to_owned())]);
    }

    #[test]
    fn an_error_about_an_unknown_option_names_the_nearest_one() {
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
    fn a_target_is_absolute_and_has_no_parent_component() {
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

//! Remedies for errors, without syntax of a language.

use std::borrow::Cow;
use std::fmt;

/// One thing to do, as a sentence without its full stop.
///
/// A part of it may be a [`Setting`], which each binding spells in its own language.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remedy {
    /// The sentence, with `{}` for the setting.
    text: Cow<'static, str>,
    setting: Option<Setting>,
}

/// A change to the specification, or a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Setting {
    /// Make the namespace of the kind with this [name](crate::spec::namespaces::Kind::name) new.
    NewNamespace(&'static str),
    /// Share the namespace of the kind with this name with the caller.
    SharedNamespace(&'static str),
    /// Share the caller's network.
    HostNetwork,
    /// Start a new program instead of a copy of the caller.
    NewProgram,
    /// Install no system call filter.
    NoFilter,
    /// Map the caller's subordinate ids.
    SubordinateIds,
    /// Map every id to itself.
    EveryId,
    /// The option with this name; the sentence says how to change it.
    Option(&'static str),
    /// The profile with this name.
    Profile(&'static str),
    /// Mount this file or directory of the host at the same path inside, read-only.
    ReadOnlyMount(String),
}

impl Remedy {
    /// A sentence in which `{}` stands for `setting`.
    pub(crate) fn with(text: impl Into<Cow<'static, str>>, setting: Setting) -> Self {
        Self { text: text.into(), setting: Some(setting) }
    }

    /// The same remedy after another sentence.
    pub(crate) fn after(mut self, sentence: &str) -> Self {
        self.text = format!("{sentence}. {}", self.text).into();
        self
    }

    /// The sentence. If there is a setting, `{}` stands for it.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The setting that the sentence is about.
    #[must_use]
    pub const fn setting(&self) -> Option<&Setting> {
        self.setting.as_ref()
    }
}

impl From<&'static str> for Remedy {
    fn from(text: &'static str) -> Self {
        Self { text: text.into(), setting: None }
    }
}

impl From<String> for Remedy {
    fn from(text: String) -> Self {
        Self { text: text.into(), setting: None }
    }
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(setting) = &self.setting else { return f.write_str(&self.text) };
        let setting = setting.to_string();
        if let Some(rest) = self.text.strip_prefix("{}") {
            let (first, others) = setting.split_at(1);
            return write!(f, "{}{others}{rest}", first.to_uppercase());
        }
        f.write_str(&self.text.replacen("{}", &setting, 1))
    }
}

impl Setting {
    /// Its name, for a table of spellings: `"new-namespace"`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::NewNamespace(_) => "new-namespace",
            Self::SharedNamespace(_) => "shared-namespace",
            Self::HostNetwork => "host-network",
            Self::NewProgram => "new-program",
            Self::NoFilter => "no-filter",
            Self::SubordinateIds => "subordinate-ids",
            Self::EveryId => "every-id",
            Self::Option(_) => "option",
            Self::Profile(_) => "profile",
            Self::ReadOnlyMount(_) => "read-only-mount",
        }
    }

    /// The kind of namespace, the option, the profile or the path that the setting is about.
    #[must_use]
    pub fn about(&self) -> Option<&str> {
        match self {
            Self::NewNamespace(name)
            | Self::SharedNamespace(name)
            | Self::Option(name)
            | Self::Profile(name) => Some(name),
            Self::ReadOnlyMount(path) => Some(path),
            Self::HostNetwork
            | Self::NewProgram
            | Self::NoFilter
            | Self::SubordinateIds
            | Self::EveryId => None,
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NewNamespace(kind) => write!(f, "make the {} namespace new", title(kind)),
            Self::SharedNamespace(kind) => write!(f, "share the {} namespace", title(kind)),
            Self::HostNetwork => f.write_str("share the caller's network"),
            Self::NewProgram => f.write_str("a new program"),
            Self::NoFilter => f.write_str("install no system call filter"),
            Self::SubordinateIds => {
                f.write_str("leave the supplementary groups out, or map the subordinate ids")
            }
            Self::EveryId => f.write_str("map every user and group id to itself"),
            Self::Option(name) => f.write_str(name),
            Self::Profile(name) => write!(f, "the profile {name}"),
            Self::ReadOnlyMount(path) => write!(f, "mount {path:?} at the same path, read-only"),
        }
    }
}

/// The kind of a namespace, as in namespaces(7).
fn title(kind: &str) -> Cow<'_, str> {
    match kind {
        "pid" | "ipc" | "uts" => kind.to_uppercase().into(),
        "net" => "network".into(),
        _ => kind.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_spelled_where_the_sentence_has_room_for_it() {
        let remedy = Remedy::with("{}", Setting::NewNamespace("uts"));
        assert_eq!(remedy.to_string(), "Make the UTS namespace new");
        let remedy = Remedy::with("Leave it out, or {}", Setting::NewNamespace("net"));
        assert_eq!(remedy.to_string(), "Leave it out, or make the network namespace new");
        assert_eq!(
            remedy.after("It said: no").to_string(),
            "It said: no. Leave it out, or make the network namespace new"
        );
        let remedy = Remedy::from("Leave it out");
        assert_eq!((remedy.to_string().as_str(), remedy.setting()), ("Leave it out", None));
    }
}

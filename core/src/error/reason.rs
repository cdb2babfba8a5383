//! Why a specification is wrong, and the wrong value.

use std::borrow::Cow;
use std::fmt;

/// The value of an option, as far as an error shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A switch, on or off.
    Flag(bool),
    /// A word with a special meaning, such as `auto`.
    Word(&'static str),
    /// Any other value, as text; a string is in quotes.
    Shown(String),
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Shown(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Shown(text)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => flag.fmt(f),
            Self::Word(word) => f.write_str(word),
            Self::Shown(text) => f.write_str(text),
        }
    }
}

/// Why a value is wrong: a kind for programs, and a clause for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// The kind of mistake.
    pub kind: ReasonKind,
    text: Cow<'static, str>,
}

/// Kinds of mistakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReasonKind {
    /// The value is malformed or out of range.
    Invalid,
    /// Nothing has the given name.
    UnknownName,
    /// Another option contradicts it.
    Contradiction,
    /// It needs a new namespace of a kind that is shared with the caller.
    SharedNamespace,
    /// A file or directory outside is missing, or has the wrong type.
    Outside,
}

impl Reason {
    pub(crate) fn new(kind: ReasonKind, text: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, text: text.into() }
    }

    pub(crate) fn shared_namespace(text: &'static str) -> Self {
        Self::new(ReasonKind::SharedNamespace, text)
    }

    /// The clause.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl From<&'static str> for Reason {
    fn from(text: &'static str) -> Self {
        Self::new(ReasonKind::Invalid, text)
    }
}

impl From<String> for Reason {
    fn from(text: String) -> Self {
        Self::new(ReasonKind::Invalid, text)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

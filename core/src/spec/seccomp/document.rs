//! A JSON document as a parser of a format reads it: each value with the place where it is, so that
//! an error can name it.

use std::fmt;

use super::json::Json;
use crate::error::SpecError;
use crate::spec::nearest::nearest_or;

pub(super) const OPTION: &str = "seccomp";

/// Where in the document a value is.
pub(super) enum Path<'a> {
    Root,
    Key(&'a Path<'a>, &'static str),
    Item(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("the profile"),
            Self::Key(Self::Root, key) => f.write_str(key),
            Self::Key(parent, key) => write!(f, "{parent}.{key}"),
            Self::Item(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// A value of the document, and where it is.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    pub(super) value: &'a Json,
    pub(super) path: &'a Path<'a>,
}

impl<'a> Node<'a> {
    /// An error about this value: `reason` ends a sentence that begins with its place.
    pub(super) fn error(&self, reason: &str, remedy: impl Into<String>) -> SpecError {
        let value = match self.value {
            Json::Text(text) => format!("{text:?}"),
            other => other.to_string(),
        };
        SpecError::new(OPTION, value, format!("{} {reason}", self.path), remedy)
    }

    pub(super) fn expected(&self, what: &str) -> SpecError {
        self.error(&format!("is {}", self.value.kind()), format!("Write {what}"))
    }

    pub(super) fn missing(&self, key: &str, remedy: impl Into<String>) -> SpecError {
        SpecError::of_text(OPTION, key, format!("{} does not have it", self.path), remedy)
    }

    pub(super) fn text(&self) -> Result<&'a str, SpecError> {
        match self.value {
            Json::Text(text) => Ok(text),
            _ => Err(self.expected("a string")),
        }
    }

    pub(super) fn number(&self, most: u64) -> Result<u64, SpecError> {
        match self.value {
            Json::Natural(number) if *number <= most => Ok(*number),
            Json::Natural(_) | Json::Number(_) => {
                Err(self.error("is out of range", format!("Write a whole number from 0 to {most}")))
            }
            _ => Err(self.expected("a number")),
        }
    }

    pub(super) fn items(&self) -> Result<&'a [Json], SpecError> {
        match self.value {
            Json::List(items) => Ok(items),
            _ => Err(self.expected("an array")),
        }
    }

    /// Calls `each` with every item of the array.
    pub(super) fn each<T>(
        &self,
        mut each: impl FnMut(Node<'_>) -> Result<T, SpecError>,
    ) -> Result<Vec<T>, SpecError> {
        let items = self.items()?.iter().enumerate();
        items.map(|(i, value)| each(Node { value, path: &Path::Item(self.path, i) })).collect()
    }

    /// One of the names of a list.
    pub(super) fn one_of<T: Copy>(
        &self,
        what: &str,
        names: &'static [(&'static str, T)],
    ) -> Result<T, SpecError> {
        let text = self.text()?;
        if let Some(&(_, value)) = names.iter().find(|(name, _)| *name == text) {
            return Ok(value);
        }
        let known = || names.iter().map(|&(name, _)| name);
        Err(self.error(&format!("is not {what}"), nearest_of(text, known())))
    }

    /// The entries, each of which has one of `keys`. A null is the same as nothing.
    pub(super) fn object(&self, keys: &'static [&'static str]) -> Result<Object<'a>, SpecError> {
        let Json::Object(entries) = self.value else {
            return Err(self.expected("an object"));
        };
        for (key, _) in entries {
            if !keys.contains(&key.as_str()) {
                let place = match self.path {
                    Path::Root => "a profile".into(),
                    path => path.to_string(),
                };
                let reason = format!("{place} has no such key");
                return Err(SpecError::of_text(
                    OPTION,
                    key,
                    reason,
                    nearest_of(key, keys.iter().copied()),
                ));
            }
        }
        Ok(Object { entries })
    }
}

pub(super) struct Object<'a> {
    entries: &'a [(String, Json)],
}

impl<'a> Object<'a> {
    pub(super) fn get(&self, key: &str) -> Option<&'a Json> {
        self.entries
            .iter()
            .find(|(known, value)| known == key && *value != Json::Null)
            .map(|(_, value)| value)
    }

    /// What `read` makes of the value of `key`; `None` where there is none.
    pub(super) fn read<T>(
        &self,
        parent: &Path<'_>,
        key: &'static str,
        read: impl FnOnce(Node<'_>) -> Result<T, SpecError>,
    ) -> Result<Option<T>, SpecError> {
        self.get(key).map(|value| read(Node { value, path: &Path::Key(parent, key) })).transpose()
    }
}

/// The nearest name of `known`, or all of them.
pub(super) fn nearest_of<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    nearest_or(name, known.clone(), || {
        format!("It is one of {}", known.collect::<Vec<_>>().join(", "))
    })
}

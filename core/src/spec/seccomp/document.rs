//! The structure of docker's JSON profiles: the keys and the types of their values.
//!
//! serde refuses an unknown key, a repeated key and a value of another type; `parse` checks the values. A null
//! is the same as a missing key, as in docker.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use crate::error::SpecError;

pub(super) const OPTION: &str = "seccomp";

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct JsonProfile {
    pub(super) default_action: String,
    pub(super) default_errno_ret: Option<u64>,
    pub(super) default_errno: Option<String>,
    pub(super) architectures: Option<Vec<String>>,
    pub(super) arch_map: Option<Vec<Object<JsonArchMap>>>,
    pub(super) flags: Option<Vec<String>>,
    pub(super) listener_path: Option<String>,
    pub(super) listener_metadata: Option<String>,
    pub(super) syscalls: Option<Vec<Object<JsonRule>>>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct JsonArchMap {
    pub(super) architecture: String,
    pub(super) sub_architectures: Option<Vec<String>>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct JsonRule {
    pub(super) names: Option<Vec<String>>,
    pub(super) name: Option<String>,
    pub(super) action: String,
    pub(super) errno_ret: Option<u64>,
    pub(super) errno: Option<String>,
    pub(super) args: Option<Vec<Object<JsonArg>>>,
    #[serde(rename = "comment")]
    pub(super) _comment: Option<String>,
    pub(super) includes: Option<Object<JsonGuard>>,
    pub(super) excludes: Option<Object<JsonGuard>>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct JsonArg {
    pub(super) index: u64,
    pub(super) value: Option<u64>,
    pub(super) value_two: Option<u64>,
    pub(super) op: String,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct JsonGuard {
    pub(super) caps: Option<Vec<String>>,
    pub(super) arches: Option<Vec<String>>,
    pub(super) min_kernel: Option<String>,
}

/// A struct that is read only from a JSON object. Derived code would also accept an array of its fields.
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(entries))
            }
        }

        deserializer.deserialize_map(ObjectVisitor(PhantomData)).map(Self)
    }
}

/// Read `text` as a profile.
pub(super) fn read(text: &str) -> Result<JsonProfile, SpecError> {
    let mut json = serde_json::Deserializer::from_str(text);
    let Object(profile) = serde_path_to_error::deserialize(&mut json)
        .map_err(|error| refused(text, Some(error.path()), error.inner()))?;
    json.end().map_err(|error| refused(text, None, &error))?;
    Ok(profile)
}

fn refused(
    text: &str,
    path: Option<&serde_path_to_error::Path>,
    error: &serde_json::Error,
) -> SpecError {
    let line = text.lines().nth(error.line().saturating_sub(1)).unwrap_or_default().trim();
    let shown: String = line.chars().take(60).collect();
    match path {
        Some(path) if error.is_data() => {
            let at_root = path.iter().next().is_none();
            let place = if at_root { "the profile".into() } else { path.to_string() };
            let remedy = "Correct it there; docker's default profile shows the format";
            SpecError::new(OPTION, shown, format!("{place}: {error}"), remedy)
        }
        _ => SpecError::of_text(
            OPTION,
            shown,
            format!("it is not a profile in JSON: {error}"),
            "Pass a profile in docker's format, or the path of a file that contains one",
        ),
    }
}

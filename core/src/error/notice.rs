//! Warnings: a container that starts, but not as its caller may think.

use std::fmt;
use std::path::Path;

use super::Remedy;

/// A warning about a specification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What is wrong: a clause, which may name a setting as a remedy does.
    pub reason: Remedy,
    /// One thing to do about it.
    pub hint: Remedy,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}. {}", self.reason, self.hint)
    }
}

/// A path in quotes, as part of the sentence of a [`Remedy`]: without the mark of its setting.
pub(crate) fn quoted(path: &Path) -> String {
    format!("{:?}", path.display().to_string()).replace("{}", "{ }")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Setting;

    #[test]
    fn a_warning_names_its_settings_in_neutral_words() {
        let path = quoted(Path::new("/srv/{}"));
        let notice = Notice {
            reason: Remedy::with(
                format!("{path} exists outside, but {{}} hides it"),
                Setting::Profile("untrusted"),
            ),
            hint: Remedy::with("{}", Setting::ReadOnlyMount("/srv".to_owned())),
        };
        assert_eq!(
            notice.to_string(),
            "\"/srv/{ }\" exists outside, but the profile untrusted hides it. \
             Mount \"/srv\" at the same path, read-only"
        );
    }
}

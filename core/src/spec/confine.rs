//! What confines a container: a profile, and the options that each replace one thing of it.

use std::sync::Arc;

use crate::error::SpecError;
use crate::spec::profile::Profile;
use crate::spec::seccomp::{OnDenied, SeccompProfile};
use crate::spec::ulimits::Ulimit;

/// The options that confine a container.
#[derive(Clone, Debug, Default)]
pub struct Confine {
    /// Where everything begins that is not given here.
    pub profile: Profile,
    /// Capabilities that come to those of the profile; `ALL` is every one.
    pub cap_add: Vec<String>,
    /// Capabilities that go from those of the profile; `ALL` is every one.
    pub cap_drop: Vec<String>,
    /// Whether set-user-ID programs and file capabilities raise nothing (`PR_SET_NO_NEW_PRIVS`).
    pub no_new_privileges: Option<bool>,
    /// The system call filter.
    pub seccomp: Seccomp,
    /// Resource limits, which come before those of the profile.
    pub ulimits: Vec<Ulimit>,
}

/// Which system call filter a container has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seccomp {
    /// That of the profile, if it has one.
    Profile(OnDenied),
    /// None, whatever the profile says.
    Unconfined,
    /// This one.
    Custom(Arc<SeccompProfile>, OnDenied),
}

impl Default for Seccomp {
    fn default() -> Self {
        Self::Profile(OnDenied::Errno)
    }
}

/// What holds for a system call that is in neither list of [`Seccomp::adjusted`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base<'a> {
    /// What the container's profile says.
    Profile,
    /// It is allowed.
    Allow,
    /// It is denied.
    Deny,
    /// What this document in docker's JSON format says.
    Document(&'a str),
}

impl Seccomp {
    /// The filter that `base` becomes when these calls are allowed and those are denied, whatever it
    /// said of them. `profile` is the container's.
    ///
    /// # Errors
    ///
    /// A name that no system call has, one in both lists, a malformed document, and calls to allow
    /// where all are allowed already.
    pub fn adjusted<S: AsRef<str>>(
        profile: Profile,
        base: Base<'_>,
        allow: &[S],
        deny: &[S],
        on_denied: OnDenied,
    ) -> Result<Self, SpecError> {
        let of_profile = || profile.confinement().seccomp();
        let begin = match base {
            Base::Profile if allow.is_empty() && deny.is_empty() => {
                if on_denied != OnDenied::Errno && of_profile().is_none() {
                    return Err(SpecError::new(
                        "seccomp",
                        "on_denied",
                        format!("profile={profile} has no filter, so that nothing is ever denied"),
                        "List calls in deny, or pass profile=\"docker\" or \"untrusted\"",
                    ));
                }
                return Ok(Self::Profile(on_denied));
            }
            Base::Profile => of_profile().unwrap_or_else(|| Arc::new(SeccompProfile::ALLOW_ALL)),
            Base::Allow => Arc::new(SeccompProfile::ALLOW_ALL),
            Base::Deny => Arc::new(SeccompProfile::DENY_ALL),
            Base::Document(text) => Arc::new(SeccompProfile::parse(text)?),
        };
        let adjusted = if allow.is_empty() && deny.is_empty() {
            Arc::clone(&begin)
        } else {
            Arc::new(begin.adjusted(allow, deny)?)
        };
        if *begin == SeccompProfile::ALLOW_ALL
            && let Some(name) = allow.first()
        {
            return Err(SpecError::of_text(
                "seccomp",
                name,
                "every system call is allowed already, so that allowing it changes nothing",
                "Begin with base=\"deny\", or with profile=\"docker\" or \"untrusted\"",
            ));
        }
        Ok(Self::Custom(adjusted, on_denied))
    }
}

impl Confine {
    /// Whether nothing is confined but by namespaces: there is nothing to work out.
    #[must_use]
    pub fn is_bare(&self) -> bool {
        let custom = matches!(self.seccomp, Seccomp::Custom(..));
        let nothing = self.cap_add.is_empty() && self.cap_drop.is_empty();
        self.profile == Profile::Namespaces && nothing && !custom && self.ulimits.is_empty()
    }

    /// Whether the profile or an option says anything of capabilities.
    pub(crate) fn changes_capabilities(&self) -> bool {
        self.profile != Profile::Namespaces || !self.cap_add.is_empty() || !self.cap_drop.is_empty()
    }

    /// Whether set-user-ID programs and file capabilities raise nothing.
    #[must_use]
    pub fn no_new_privileges(&self) -> bool {
        self.no_new_privileges.unwrap_or(self.profile.confinement().no_new_privileges)
    }

    /// The filter, and what a denied call gets.
    pub(crate) fn filter(&self) -> Option<(Arc<SeccompProfile>, OnDenied)> {
        match &self.seccomp {
            Seccomp::Profile(on_denied) => {
                self.profile.confinement().seccomp().map(|profile| (profile, *on_denied))
            }
            Seccomp::Unconfined => None,
            Seccomp::Custom(profile, on_denied) => Some((Arc::clone(profile), *on_denied)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Base, Confine, Seccomp};
    use crate::spec::profile::Profile;
    use crate::spec::seccomp::{OnDenied, SeccompProfile, docker};

    const NONE: [&str; 0] = [];

    #[test]
    fn without_lists_the_filter_is_the_profiles_own() {
        let own = Seccomp::adjusted(Profile::Docker, Base::Profile, &NONE, &NONE, OnDenied::Kill);
        let confine =
            Confine { profile: Profile::Docker, seccomp: own.unwrap(), ..Confine::default() };
        assert_eq!(confine.filter(), Some((docker(), OnDenied::Kill)));
        let unconfined = Confine { seccomp: Seccomp::Unconfined, ..confine };
        assert_eq!(unconfined.filter(), None);
        assert!(Confine::default().is_bare());
    }

    #[test]
    fn what_could_change_nothing_is_refused() {
        let refused = |profile, base, allow: &[&str]| {
            Seccomp::adjusted(profile, base, allow, &[], OnDenied::Errno).is_err()
        };
        assert!(refused(Profile::Namespaces, Base::Profile, &["mount"]));
        assert!(refused(Profile::Docker, Base::Allow, &["mount"]));
        assert!(!refused(Profile::Docker, Base::Profile, &["mount"]));
        assert!(!refused(Profile::Namespaces, Base::Deny, &["mount"]));
    }

    #[test]
    fn lists_under_no_filter_are_those_of_a_filter_of_their_own() {
        let adjusted = Seccomp::adjusted(
            Profile::Namespaces,
            Base::Profile,
            &[],
            &["ptrace"],
            OnDenied::Errno,
        );
        let expected = SeccompProfile::deny(&["ptrace"]).unwrap();
        assert_eq!(adjusted, Ok(Seccomp::Custom(expected.into(), OnDenied::Errno)));
    }
}

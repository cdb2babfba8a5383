//! The confinement of a container: a profile, and options that each replace one part of it.

use std::sync::Arc;

use crate::error::SpecError;
use crate::spec::profile::Profile;
use crate::spec::seccomp::{OnDenied, SeccompProfile};
use crate::spec::ulimits::Ulimit;

/// The options that confine a container.
#[derive(Clone, Debug, Default)]
pub struct Confine {
    /// The profile, which the other options adjust.
    pub profile: Profile,
    /// Capabilities to add to those of the profile; `ALL` stands for every one.
    pub cap_add: Vec<String>,
    /// Capabilities to drop from those of the profile; `ALL` stands for every one.
    pub cap_drop: Vec<String>,
    /// Whether execve(2) ignores set-user-ID bits and file capabilities (`PR_SET_NO_NEW_PRIVS`); `None`: as in
    /// the profile.
    pub no_new_privileges: Option<bool>,
    /// The system call filter.
    pub seccomp: Seccomp,
    /// Resource limits, which replace the profile's limits of the same resources.
    pub ulimits: Vec<Ulimit>,
}

/// The system call filter of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seccomp {
    /// The profile's filter, if it has one.
    Profile(OnDenied),
    /// No filter, even if the profile has one.
    Unconfined,
    /// This filter.
    Custom(Arc<SeccompProfile>, OnDenied),
}

impl Default for Seccomp {
    fn default() -> Self {
        Self::Profile(OnDenied::Errno)
    }
}

/// The rule for a system call that is in neither list of [`Seccomp::adjusted`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base<'a> {
    /// The rule of the container's profile.
    Profile,
    /// It is allowed.
    Allow,
    /// It is denied.
    Deny,
    /// The rule of this document in docker's JSON format.
    Document(&'a str),
}

impl Seccomp {
    /// Return the filter of `base`, with the calls in `allow` allowed and those in `deny` denied.
    ///
    /// The lists override the rules of `base`. `profile` is the container's.
    ///
    /// # Errors
    ///
    /// An unknown system call, one in both lists, a malformed document, and a list of calls to allow if
    /// `base` allows every call.
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
                        format!("the profile {profile} has no filter that could deny a call"),
                        "List calls in deny, or choose the profile docker or untrusted",
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
                "every system call is allowed already, so allowing it changes nothing",
                "Choose the base deny, or the profile docker or untrusted",
            ));
        }
        Ok(Self::Custom(adjusted, on_denied))
    }
}

impl Confine {
    /// Return whether only namespaces confine the container, so there is nothing to resolve.
    #[must_use]
    pub fn is_bare(&self) -> bool {
        let custom = matches!(self.seccomp, Seccomp::Custom(..));
        let nothing = self.cap_add.is_empty() && self.cap_drop.is_empty();
        self.profile == Profile::Namespaces && nothing && !custom && self.ulimits.is_empty()
    }

    /// Return whether the profile or an option sets capabilities.
    pub(crate) fn changes_capabilities(&self) -> bool {
        self.profile != Profile::Namespaces || !self.cap_add.is_empty() || !self.cap_drop.is_empty()
    }

    /// Return whether execve(2) ignores set-user-ID bits and file capabilities.
    #[must_use]
    pub fn no_new_privileges(&self) -> bool {
        self.no_new_privileges.unwrap_or(self.profile.confinement().no_new_privileges)
    }

    /// Return the seccomp profile and what happens to a denied call; `None` for no filter.
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
    fn a_list_that_changes_nothing_is_refused() {
        let refused = |profile, base, allow: &[&str]| {
            Seccomp::adjusted(profile, base, allow, &[], OnDenied::Errno).is_err()
        };
        assert!(refused(Profile::Namespaces, Base::Profile, &["mount"]));
        assert!(refused(Profile::Docker, Base::Allow, &["mount"]));
        assert!(!refused(Profile::Docker, Base::Profile, &["mount"]));
        assert!(!refused(Profile::Namespaces, Base::Deny, &["mount"]));
    }

    #[test]
    fn a_deny_list_for_a_profile_without_a_filter_becomes_a_filter() {
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

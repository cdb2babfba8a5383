//! `minidocker._core.Confine`: the options that confine a container.

use minidocker_core::error::SpecError;
use minidocker_core::spec::confine::{self, Base, Seccomp};
use minidocker_core::spec::profile::Profile;
use minidocker_core::spec::ulimits::Ulimit;
use pyo3::prelude::*;

use crate::errors;

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Confine>()
}

/// The base, the document if the base is one, the calls to allow, the calls to deny, and the action for a denied call.
type Filter = (String, Option<String>, Vec<String>, Vec<String>, String);

/// The options that confine a container, as the core has them.
#[pyclass(frozen, module = "minidocker._core")]
pub(crate) struct Confine(pub(crate) confine::Confine);

#[pymethods]
impl Confine {
    #[new]
    #[pyo3(signature = (
        *, profile, cap_add, cap_drop, no_new_privileges, seccomp, ulimits,
    ))]
    fn new(
        py: Python<'_>,
        profile: &str,
        cap_add: Vec<String>,
        cap_drop: Vec<String>,
        no_new_privileges: Option<bool>,
        seccomp: Option<Filter>,
        ulimits: Vec<(String, Option<i64>, Option<i64>)>,
    ) -> PyResult<Self> {
        let wrong = |error: SpecError| errors::spec_error(py, &error);
        let profile: Profile = profile.parse().map_err(wrong)?;
        Ok(Self(confine::Confine {
            profile,
            cap_add,
            cap_drop,
            no_new_privileges,
            seccomp: match seccomp {
                Some(filter) => seccomp_option(profile, &filter)?.map_err(wrong)?,
                None => Seccomp::default(),
            },
            ulimits: ulimits
                .into_iter()
                .map(|(name, soft, hard)| Ulimit::new(&name, soft, hard))
                .collect::<Result<_, _>>()
                .map_err(wrong)?,
        }))
    }
}

fn seccomp_option(profile: Profile, filter: &Filter) -> PyResult<Result<Seccomp, SpecError>> {
    let (base, document, allow, deny, on_denied) = filter;
    let base = match (base.as_str(), document) {
        ("unconfined", _) => return Ok(Ok(Seccomp::Unconfined)),
        ("document", Some(document)) => Base::Document(document),
        ("profile", _) => Base::Profile,
        ("allow", _) => Base::Allow,
        ("deny", _) => Base::Deny,
        (other, _) => return Err(errors::unknown("base of a filter", other)),
    };
    let adjusted = |on_denied| Seccomp::adjusted(profile, base, allow, deny, on_denied);
    Ok(on_denied.parse().and_then(adjusted))
}

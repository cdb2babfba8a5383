//! Linux namespaces, fork and exec: the container engine under the Python package `minidocker`.
//!
//! A [`Spec`](spec::Spec) says what is asked for; [`Plan::new`](plan::Plan::new) turns it into an
//! ordered list of system calls; [`launch`](launch::launch) executes that list, from clone to exec;
//! the [`Process`](process::Process) that comes back is a child of the caller's.
//!
//! ```no_run
//! use minidocker_core::{host::Host, launch, plan::Plan, spec::{Command, Payload, Spec}};
//!
//! let spec = Spec { hostname: Some(b"mycontainer".to_vec()), ..Spec::default() };
//! let command = Command::new(c"/bin/hostname".into(), vec![c"hostname".into()]);
//! let plan = Plan::new(&spec, Payload::Command(&command), &Host::gather(&spec)?, None)?;
//! for line in plan.lines() {
//!     println!("{line}");
//! }
//! let process = launch::launch(&plan, None, launch::LaunchParams::default())?;
//! println!("started {}", process.pid());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use minidocker_init::{child, program, raw};

pub mod caller;
mod clone;
pub mod error;
pub mod host;
pub mod launch;
pub mod linux;
pub mod plan;
pub mod probe;
pub mod process;
pub mod spec;
pub mod step;
mod sys;
mod watchdog;

/// How many cases a property is tried with: few, where nobody asks for more.
#[cfg(test)]
fn property_cases(few: u32) -> proptest::prelude::ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    proptest::prelude::ProptestConfig::with_cases(asked.unwrap_or(few))
}

//! Run a command in Linux namespaces of its own, in about a millisecond, with no daemon, no image and no root.
//!
//! [`Command`] works like [`std::process::Command`]:
//!
//! ```
//! use minidocker_core::Command;
//!
//! let output = Command::new("hostname").hostname("mycontainer").output()?;
//! assert_eq!(output.stdout, b"mycontainer\n");
//! # Ok::<(), minidocker_core::CommandError>(())
//! ```
//!
//! Its parts can be used by themselves. A [`Spec`](spec::Spec) is the request. [`Host`](host::Host) gathers facts
//! about this machine and the caller. [`Plan::new`](plan::Plan::new) turns both into an ordered list of system
//! calls. [`Process::launch`](process::Process::launch) executes that list, from clone to exec, and returns a
//! child process of the caller.
//!
//! ```
//! use minidocker_core::spec::{CommandSpec, Payload, Spec};
//! use minidocker_core::{host::Host, launch::LaunchParams, plan::Plan, process::Process};
//!
//! let spec = Spec { hostname: Some(b"mycontainer".to_vec()), ..Spec::default() };
//! let command = CommandSpec::new(c"/bin/true".into(), vec![c"true".into()]);
//! let payload = Payload::Command(&command);
//! let plan = Plan::new(&spec, payload, &Host::gather(&spec)?.with(payload), None)?;
//! for line in plan.lines() {
//!     println!("{line}");
//! }
//! let process = Process::launch(&plan, None, LaunchParams::default())?;
//! assert!(process.wait()?.success());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The Python package `minidocker` is built on this crate. This documentation hides the modules that only its
//! binding uses; they may change in any version.

// For the Python binding: hooks that run before and after the interpreter forks.
#[doc(hidden)]
pub mod caller;
mod clone;
mod command;
pub mod error;
pub mod host;
pub mod launch;
// For the Python binding: the calls of `minidocker.linux`. Rust programs have `nix` and `rustix`.
#[doc(hidden)]
pub mod linux;
pub mod plan;
// For the Python binding: the trials of `minidocker.doctor`.
#[doc(hidden)]
pub mod probe;
pub mod process;
pub mod spec;
pub mod step;
mod sys;
mod watchdog;

pub use command::{Child, Command, CommandError, Stdio};
pub use process::Exit;
pub use sys::Usage;

/// The examples of README.md, for `cargo test --doc`.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The configuration of a property test: `PROPTEST_CASES` cases, or `few` if that is not set.
#[cfg(test)]
fn property_cases(few: u32) -> proptest::prelude::ProptestConfig {
    let wanted = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    proptest::prelude::ProptestConfig::with_cases(wanted.unwrap_or(few))
}

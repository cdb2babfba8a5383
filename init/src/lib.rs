//! minidocker's code between clone and exec, which the static helper contains too.
//!
//! minidocker-core encodes a plan as a [`program`]. A cloned child walks it ([`mod@child`]), in its parent's
//! memory or as the [`HELPER`], and makes only [`raw`] system calls.
//!
//! This crate is an implementation detail of minidocker-core and has no stable interface.

#![no_std]

pub mod child;
pub mod pids;
pub mod proc;
pub mod program;
pub mod raw;

/// The helper, a static ELF program. Its one argument is the number of a descriptor that holds a
/// [`program`].
#[cfg(not(helper))]
pub static HELPER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/minidocker-init"));

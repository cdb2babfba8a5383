//! What minidocker runs between clone and exec, and in the static helper.
//!
//! A plan is encoded as a [`program`]. A cloned child walks it ([`child`]), in its parent's memory or as the
//! [`HELPER`], by [`raw`] system calls alone. An implementation detail of minidocker-core: nothing here is stable.

#![no_std]

pub mod child;
pub mod pids;
pub mod proc;
pub mod program;
pub mod raw;

/// The helper: a static ELF program. It gets one argument, the number of a descriptor that holds a
/// [`program`].
#[cfg(not(helper))]
pub static HELPER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/minidocker-init"));

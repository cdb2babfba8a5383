//! Linux namespaces, fork and exec: the container engine under the Python package `minidocker`.

pub mod linux;
pub mod namespaces;

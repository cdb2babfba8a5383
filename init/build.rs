//! Compiles the static helper, a program of a few kilobytes without libc, for the library to embed.
//!
//! A Cargo profile cannot set `panic = "abort"` for one target only, nor link a static binary without libc
//! next to a shared library. So this script runs the same rustc on the same two crates.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// The size limit of the helper in bytes. A larger one contains code that does not belong in it.
const MAX_LENGTH: u64 = 64 * 1024;

fn main() {
    println!("cargo::rerun-if-changed=src");
    println!("cargo::rustc-check-cfg=cfg(helper)");
    // The program that Cargo links defines its own `_start`.
    println!("cargo::rustc-link-arg-bins=-nostartfiles");

    let output = PathBuf::from(variable("OUT_DIR"));
    let library = output.join("libminidocker_init.rlib");
    let helper = output.join("minidocker-init");
    compile(&library, "src/lib.rs", &["--crate-type=rlib", "--cfg=helper"]);
    let linker = env::var("RUSTC_LINKER").unwrap_or_else(|_| "cc".to_owned());
    let external = format!("--extern=minidocker_init={}", library.display());
    let linker = format!("-Clinker={linker}");
    let mut options = vec![
        "--crate-type=bin",
        &external,
        &linker,
        "-Clto=fat",
        "-Cdefault-linker-libraries=no",
        "-Clink-arg=-nostartfiles",
        "-Clink-arg=-nostdlib",
        "-Clink-arg=-static",
        "-Clink-arg=-no-pie",
        "-Clink-arg=-Wl,--build-id=none",
        "-Clink-arg=-Wl,-z,noexecstack",
    ];
    if variable("CARGO_CFG_TARGET_ENV") == "musl" {
        // rustc would link its own crt1.o, whose `_start` collides with the helper's. On other targets the
        // option would hide the linker that comes with rustc.
        options.push("-Clink-self-contained=no");
    }
    compile(&helper, "src/main.rs", &options);
    let length = fs::metadata(&helper).expect("rustc wrote the helper").len();
    assert!(length < MAX_LENGTH, "the helper has grown to {length} bytes");
}

fn compile(output: &Path, source: &str, options: &[&str]) {
    let status = Command::new(variable("RUSTC"))
        .args([source, "--crate-name=minidocker_init", "--edition=2024"])
        .args(["--target", &variable("TARGET")])
        .args(["-Cpanic=abort", "-Copt-level=s", "-Ccodegen-units=1", "-Coverflow-checks=off"])
        .args(["-Crelocation-model=static", "-Cstrip=symbols"])
        .args(options)
        .arg("-o")
        .arg(output)
        .status()
        .expect("rustc starts");
    assert!(status.success(), "{source} does not compile for this target");
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}

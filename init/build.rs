//! Compiles the static helper: a program of a few kilobytes without libc, which the library embeds.
//!
//! Cargo's profiles have neither `panic = "abort"` for one target alone nor static binaries without
//! libc beside a shared library, so this runs the same rustc on the same two crates.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// Longer than this, something has come in that does not belong there.
const LONGEST: u64 = 64 * 1024;

fn main() {
    println!("cargo::rerun-if-changed=src");
    println!("cargo::rustc-check-cfg=cfg(helper)");
    // For the program that Cargo links: `_start` is its own.
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
        // rustc would link its own crt1.o, whose `_start` collides with the helper's. Elsewhere the option
        // would hide the linker that rustc brings.
        options.push("-Clink-self-contained=no");
    }
    compile(&helper, "src/main.rs", &options);
    let length = fs::metadata(&helper).expect("rustc wrote the helper").len();
    assert!(length < LONGEST, "the helper has grown to {length} bytes");
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
        .expect("rustc can be started");
    assert!(status.success(), "{source} does not compile for this target");
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}

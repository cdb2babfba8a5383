//! Compiles the static helper (`src/init/main.rs`) with the same rustc, for the same target: a
//! program of a few kilobytes without libc, which `src/helper.rs` embeds.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for source in ["init", "child.rs", "program.rs", "raw.rs"] {
        println!("cargo::rerun-if-changed=src/{source}");
    }
    let variable = |name: &str| env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"));
    let output = Path::new(&variable("OUT_DIR")).join("minidocker-init");
    let linker = env::var("RUSTC_LINKER").unwrap_or_else(|_| "cc".to_owned());
    let status = Command::new(variable("RUSTC"))
        .args(["src/init/main.rs", "--crate-type=bin", "--edition=2024", "--target"])
        .arg(variable("TARGET"))
        .args(["-C", "panic=abort", "-C", "opt-level=s", "-C", "relocation-model=static"])
        .args(["-C", "strip=symbols", "-C", "codegen-units=1", "-C", "overflow-checks=off"])
        .args(["-C", "default-linker-libraries=no"])
        .arg(format!("-Clinker={linker}"))
        .args(
            [
                "-nostartfiles",
                "-nostdlib",
                "-static",
                "-no-pie",
                "-Wl,--build-id=none",
                "-Wl,-z,noexecstack",
            ]
            .map(|arg| format!("-Clink-arg={arg}")),
        )
        .arg("-o")
        .arg(&output)
        .status()
        .expect("rustc can be started");
    assert!(status.success(), "the helper src/init/main.rs does not compile for this target");
    let length = fs::metadata(&output).expect("rustc wrote the helper").len();
    assert!(
        length < 64 * 1024,
        "the helper has grown to {length} bytes: it must stay a few kilobytes"
    );
}

//! Any text parses as a profile or gives an error with a reason and a remedy. Any profile compiles to a
//! filter that the kernel accepts, or gives an error because the filter would be too long.

#![no_main]

use libfuzzer_sys::fuzz_target;
use minidocker_core::spec::capabilities::CapabilitySet;
use minidocker_core::spec::seccomp::{
    Arch, KernelVersion, OnDenied, Platform, SeccompProfile, compile,
};

fuzz_target!(|text: &str| {
    let profile = match SeccompProfile::parse(text) {
        Ok(profile) => profile,
        Err(error) => {
            assert_eq!(error.option, "seccomp");
            assert!(!error.reason.text().is_empty() && !error.remedy.text().is_empty());
            return;
        }
    };
    for arch in [Arch::X86_64, Arch::Aarch64] {
        for on_denied in [OnDenied::Errno, OnDenied::Kill, OnDenied::Log] {
            let target = Platform {
                arch,
                kernel: KernelVersion { major: 6, minor: 1 },
                capabilities: CapabilitySet::DOCKER,
            };
            let Ok(filter) = compile(&profile, &target, on_denied) else { continue };
            let program = filter.program;
            assert!((1..=4096).contains(&program.len()));
            // Every jump stays inside the program, and the last instruction returns.
            for (at, instruction) in program.iter().enumerate() {
                let farthest = match instruction.code {
                    0x05 => instruction.k as usize,
                    code if code & 0x07 == 0x05 => instruction.jt.max(instruction.jf).into(),
                    _ => continue,
                };
                assert!(at + 1 + farthest < program.len());
            }
            assert_eq!(program.last().map(|instruction| instruction.code), Some(0x06));
        }
    }
});

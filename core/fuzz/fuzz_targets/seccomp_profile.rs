//! Any text is a profile or an error that says what is wrong, and any profile a filter that the
//! kernel would take, or an error that says that it is too long.

#![no_main]

use libfuzzer_sys::fuzz_target;
use minidocker_core::spec::capabilities::CapabilitySet;
use minidocker_core::spec::seccomp::{Arch, KernelVersion, OnDenied, SeccompProfile, Platform, compile};

fuzz_target!(|text: &str| {
    let profile = match SeccompProfile::parse(text) {
        Ok(profile) => profile,
        Err(error) => {
            assert_eq!(error.option, "seccomp");
            assert!(!error.reason.is_empty() && !error.remedy.is_empty());
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
            // Every jump stays inside, and the last instruction ends the program.
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

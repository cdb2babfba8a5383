//! An interpreter of BPF programs that panics where the kernel would refuse a seccomp filter.

use libc::sock_filter;

use super::Arch;

/// Return the value that the program returns for this call.
pub(super) fn run(program: &[sock_filter], arch: Arch, number: u32, args: &[u64; 6]) -> u32 {
    assert!((1..=4096).contains(&program.len()), "{} instructions", program.len());
    let mut words = [0; 16];
    words[0] = number;
    words[1] = arch.audit();
    for (i, argument) in args.iter().enumerate() {
        words[4 + 2 * i] = *argument as u32;
        words[5 + 2 * i] = (argument >> 32) as u32;
    }
    let mut accumulator = 0u32;
    let mut at = 0;
    loop {
        let instruction = program[at];
        let skip = |taken| usize::from(if taken { instruction.jt } else { instruction.jf });
        let k = instruction.k;
        at += 1;
        match instruction.code {
            0x20 => {
                assert!(k.is_multiple_of(4) && k < 64, "the kernel refuses a load at {k}");
                accumulator = words[k as usize / 4];
            }
            0x54 => accumulator &= k,
            0x05 => at += k as usize,
            0x15 => at += skip(accumulator == k),
            0x25 => at += skip(accumulator > k),
            0x35 => at += skip(accumulator >= k),
            0x45 => at += skip(accumulator & k != 0),
            0x06 => return k,
            code => panic!("the assembler never writes instruction {code:#x}"),
        }
    }
}

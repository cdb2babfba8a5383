//! An assembler for classic BPF that writes a program from its end to its beginning.
//!
//! All jumps of classic BPF go forward. Because the last instruction is written first, every target is known
//! before the jump to it, and there are no labels to patch.

use libc::sock_filter;

// The libc crate has these constants of linux/bpf_common.h as 32-bit numbers.
const LOAD_WORD_ABSOLUTE: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// A comparison of the accumulator with a constant.
#[derive(Clone, Copy)]
pub(super) enum Test {
    Equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as isize,
    Greater = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as isize,
    GreaterOrEqual = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as isize,
    /// At least one bit of the constant is set.
    AnyBit = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as isize,
}

/// The next step of a filter.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Continue at an instruction, counted from the end of the program.
    At(usize),
    /// Return this value, by any instruction that returns it.
    Return(u32),
}

/// The part of a program that is already written: its end.
pub(super) struct Assembler {
    reversed: Vec<sock_filter>,
    /// For each returned value, the last instruction that returns it.
    returns: Vec<(u32, usize)>,
}

impl Assembler {
    /// A conditional jump skips at most 255 instructions. Each of its two targets may need one more instruction
    /// in between.
    const REACH: usize = 253;

    pub(super) fn new() -> Self {
        Self { reversed: Vec::with_capacity(512), returns: Vec::new() }
    }

    /// Return the finished program, which begins at `start`.
    pub(super) fn finish(mut self, start: Next) -> Vec<sock_filter> {
        self.fall_into(start);
        self.reversed.reverse();
        self.reversed
    }

    /// Write a branch to `yes` if the accumulator passes the test, else to `no`.
    pub(super) fn branch(&mut self, test: Test, with: u32, yes: Next, no: Next) -> Next {
        if yes == no {
            return yes;
        }
        let yes = self.within_reach(yes);
        let no = self.within_reach(no);
        let at = self.reversed.len();
        self.push(test as u16, (at - yes - 1) as u8, (at - no - 1) as u8, with)
    }

    /// Write a load of the 32-bit word at `offset` of `struct seccomp_data`, followed by `next`.
    pub(super) fn load(&mut self, offset: u32, next: Next) -> Next {
        self.fall_into(next);
        self.push(LOAD_WORD_ABSOLUTE, 0, 0, offset)
    }

    /// Write an AND of the accumulator with `mask`, followed by `next`.
    pub(super) fn and(&mut self, mask: u32, next: Next) -> Next {
        self.fall_into(next);
        self.push(AND, 0, 0, mask)
    }

    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Next {
        self.reversed.push(sock_filter { code, jt, jf, k });
        Next::At(self.reversed.len() - 1)
    }

    /// Return an instruction that does the same as `next`, within reach of a conditional jump.
    fn within_reach(&mut self, next: Next) -> usize {
        let reachable = |at: usize| self.reversed.len() - at <= Self::REACH;
        let at = match next {
            Next::At(at) if reachable(at) => return at,
            Next::Return(value) => {
                let last = self.returns.iter().find(|(returned, _)| *returned == value);
                if let Some(&(_, at)) = last.filter(|(_, at)| reachable(*at)) {
                    return at;
                }
                self.push_return(value)
            }
            Next::At(at) => {
                let distance = self.reversed.len() - at - 1;
                self.push(JUMP, 0, 0, distance as u32)
            }
        };
        match at {
            Next::At(at) => at,
            Next::Return(_) => unreachable!("an instruction that was pushed has a place"),
        }
    }

    /// Make `next` follow the next instruction that is pushed.
    fn fall_into(&mut self, next: Next) {
        let front = self.reversed.len().wrapping_sub(1);
        match next {
            Next::At(at) if at == front => {}
            Next::At(at) => {
                self.push(JUMP, 0, 0, (front - at) as u32);
            }
            Next::Return(value) if self.returns.contains(&(value, front)) => {}
            Next::Return(value) => {
                self.push_return(value);
            }
        }
    }

    fn push_return(&mut self, value: u32) -> Next {
        let at = self.reversed.len();
        match self.returns.iter_mut().find(|(returned, _)| *returned == value) {
            Some(last) => last.1 = at,
            None => self.returns.push((value, at)),
        }
        self.push(RETURN, 0, 0, value)
    }
}

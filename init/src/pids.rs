//! A set of pids of constant size.

/// Every pid is below this (`PID_MAX_LIMIT`).
const LIMIT: usize = 1 << 22;

/// A set of pids. A static set is large, but most of its pages are never touched.
pub struct Pids([u8; LIMIT / 8]);

impl Pids {
    /// The empty set.
    #[expect(clippy::large_stack_arrays, reason = "the value of a static, which is not on a stack")]
    pub const EMPTY: Self = Self([0; LIMIT / 8]);

    /// Add a pid and return whether it is new; ignore a number that is not a pid.
    pub fn add(&mut self, pid: i32) -> bool {
        let (at, bit) = place(pid);
        match self.0.get_mut(at) {
            Some(byte) if *byte & bit == 0 => {
                *byte |= bit;
                true
            }
            _ => false,
        }
    }

    /// Return whether a pid is in the set.
    #[must_use]
    pub fn contains(&self, pid: i32) -> bool {
        let (at, bit) = place(pid);
        self.0.get(at).is_some_and(|byte| byte & bit != 0)
    }

    /// Call `each` with every pid, in ascending order, and empty the set.
    pub fn drain(&mut self, mut each: impl FnMut(i32)) {
        for (at, byte) in self.0.iter_mut().enumerate().filter(|(_, byte)| **byte != 0) {
            for bit in (0..8).filter(|bit| *byte & (1 << bit) != 0) {
                each((at * 8 + bit) as i32);
            }
            *byte = 0;
        }
    }
}

/// Return the byte and the bit of a pid. The byte of a negative number is past the end.
fn place(pid: i32) -> (usize, u8) {
    (pid as usize / 8, 1 << (pid as usize % 8))
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::sync::Mutex;
    use std::vec::Vec;

    use super::{LIMIT, Pids};

    #[test]
    fn a_pid_is_new_once_and_drained_in_order() {
        static SET: Mutex<Pids> = Mutex::new(Pids::EMPTY);
        let mut set = SET.lock().unwrap();
        let last = LIMIT as i32 - 1;
        for pid in [4711, 1, last, 8] {
            assert!(!set.contains(pid) && set.add(pid) && set.contains(pid) && !set.add(pid));
        }
        assert!(!set.contains(0) && !set.contains(4710) && !set.contains(4712));
        let mut drained = Vec::new();
        set.drain(|pid| drained.push(pid));
        assert_eq!(drained, [1, 8, 4711, last]);
        assert!(!set.contains(4711) && set.add(4711));
        set.drain(|_| {});
    }

    #[test]
    fn a_number_that_is_not_a_pid_is_not_added() {
        static SET: Mutex<Pids> = Mutex::new(Pids::EMPTY);
        let mut set = SET.lock().unwrap();
        for wrong in [-1, i32::MIN, LIMIT as i32, i32::MAX] {
            assert!(!set.add(wrong) && !set.contains(wrong), "{wrong}");
        }
    }
}

//! Parsers for files of /proc, without an allocator.

/// Room for the longest path: "/proc/self/fdinfo/2147483647".
const LONGEST_PATH: usize = 40;

/// Return `before`, the number in decimal, `after` and a NUL; `None` if that is too long.
#[must_use]
pub fn path(before: &[u8], number: i32, after: &[u8]) -> Option<[u8; LONGEST_PATH]> {
    let mut digits = [0_u8; 10];
    let mut first = digits.len();
    let mut rest = number.unsigned_abs();
    loop {
        first -= 1;
        *digits.get_mut(first)? = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    let mut path = [0; LONGEST_PATH];
    let mut places = path.iter_mut();
    for &byte in before.iter().chain(digits.get(first..)?).chain(after).chain(&[0]) {
        *places.next()? = byte;
    }
    Some(path)
}

/// Return the decimal number in `text`; `None` if there are other characters or the number does not fit.
#[must_use]
pub fn number(text: &[u8]) -> Option<i32> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_i32, |value, &byte| {
        let digit = byte.is_ascii_digit().then(|| i32::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

/// Return the pid in the /proc/self/fdinfo of a pidfd; `None` if the process has been reaped.
#[must_use]
pub fn pid_in_fdinfo(content: &[u8]) -> Option<i32> {
    let mut lines = content.split(|&byte| byte == b'\n');
    let pid = lines.find_map(|line| line.strip_prefix(b"Pid:"))?;
    number(pid.trim_ascii()).filter(|&pid| pid > 0)
}

/// Call `each` with every pid among the names of directory entries, as getdents64(2) returns them.
pub fn pids_in(mut entries: &[u8], mut each: impl FnMut(i32)) {
    // struct linux_dirent64: the inode and the offset (8 bytes each), the length of the entry (2), the type
    // (1), and the name with its NUL.
    const LENGTH: usize = 16;
    const NAME: usize = 19;
    while let [_, ..] = entries {
        let (Some(&low), Some(&high)) = (entries.get(LENGTH), entries.get(LENGTH + 1)) else {
            return;
        };
        let length = usize::from(u16::from_ne_bytes([low, high])).max(NAME);
        let Some((entry, rest)) = entries.split_at_checked(length) else { return };
        let name = entry.get(NAME..).and_then(|name| name.split(|&byte| byte == 0).next());
        if let Some(pid) = name.and_then(number).filter(|&pid| pid > 0) {
            each(pid);
        }
        entries = rest;
    }
}

/// The fields of /proc/PID/stat that the watchdog needs.
#[derive(Debug, PartialEq, Eq)]
pub struct Stat {
    /// The letter of the state. `Z` and `X` mean that the process has ended.
    pub state: u8,
    /// The pid of the parent.
    pub parent: i32,
    /// The id of the session.
    pub session: i32,
}

impl Stat {
    /// Parse the content of the file.
    #[must_use]
    pub fn parse(content: &[u8]) -> Option<Self> {
        // The name, in parentheses, may contain anything. State, parent, process group and session follow.
        let after = content.rsplit(|&byte| byte == b')').next()?;
        let mut fields = after.split(|&byte| byte == b' ').skip(1);
        let state = *fields.next()?.first()?;
        let parent = fields.next().and_then(number)?;
        let session = fields.nth(1).and_then(number)?;
        Some(Self { state, parent, session })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use super::{Stat, number, path, pid_in_fdinfo, pids_in};

    fn entry(name: &str) -> Vec<u8> {
        let length = (19 + name.len() + 1).next_multiple_of(8);
        let mut entry = std::vec![7; 16];
        entry.extend((length as u16).to_ne_bytes());
        entry.push(4);
        entry.extend(name.as_bytes());
        entry.resize(length, 0);
        entry
    }

    #[test]
    fn the_pids_are_the_names_that_are_numbers() {
        let names = ["..", "1", "self", "4711", "0", "12x", "4194303", ""];
        let entries = names.map(entry).concat();
        let read = |entries: &[u8]| {
            let mut pids = Vec::new();
            pids_in(entries, |pid| pids.push(pid));
            pids
        };
        assert_eq!(read(&entries), [1, 4711, 4_194_303]);
        // The kernel writes whole entries; the parser ignores a partial one.
        for cut in 0..entries.len() {
            assert!([1, 4711, 4_194_303].starts_with(&read(&entries[..cut])));
        }
        assert_eq!(read(&[0; 64]), []);
    }

    #[test]
    fn a_path_ends_in_a_nul_and_must_fit() {
        assert!(path(b"/proc/", 0, b"/stat").unwrap().starts_with(b"/proc/0/stat\0"));
        let longest = path(b"/proc/self/fdinfo/", i32::MAX, b"").unwrap();
        assert!(longest.starts_with(b"/proc/self/fdinfo/2147483647\0"));
        assert_eq!(path(&[b'/'; 38], 1, b"").unwrap()[38..], *b"1\0");
        assert_eq!(path(&[b'/'; 38], 10, b""), None);
    }

    #[test]
    fn a_number_is_all_digits_and_fits() {
        assert_eq!(number(b"0"), Some(0));
        assert_eq!(number(b"2147483647"), Some(i32::MAX));
        for wrong in ["", "-1", "+1", "12a", " 1", "2147483648"] {
            assert_eq!(number(wrong.as_bytes()), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_pidfd_has_a_pid_until_the_process_is_reaped() {
        assert_eq!(
            pid_in_fdinfo(b"pos:\t0\nflags:\t02000002\nPid:\t4711\nNSpid:\t4711\t1\n"),
            Some(4711)
        );
        assert_eq!(pid_in_fdinfo(b"pos:\t0\nPid:\t-1\nNSpid:\t-1\n"), None);
        assert_eq!(pid_in_fdinfo(b"pos:\t0\nPid:\t0\n"), None);
        assert_eq!(pid_in_fdinfo(b"pos:\t0\nflags:\t02\n"), None);
    }

    #[test]
    fn the_name_of_a_process_may_contain_anything() {
        let stat = Stat { state: b'S', parent: 7, session: 9 };
        assert_eq!(Stat::parse(b"12 (sh) S 7 8 9 0 -1 4194560"), Some(stat));
        let stat = Stat { state: b'Z', parent: 1, session: 3 };
        assert_eq!(Stat::parse(b"12 (a) R 5 5 5 (b) Z 1 2 3 0 -1"), Some(stat));
        for cut in ["", "12 (sh", "12 (sh)", "12 (sh) S", "12 (sh) S 7 8", "12 (sh) S x 8 9"] {
            assert_eq!(Stat::parse(cut.as_bytes()), None, "{cut:?}");
        }
    }
}

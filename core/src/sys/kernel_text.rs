//! The text of the kernel in /proc: bytes, in lines that end with `\n` alone.
//!
//! Names of mount points and processes are bytes that processes chose, those in containers included. They may not be
//! UTF-8; the kernel escapes `\n`.

/// The lines of a file, without their ends.
pub(crate) fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.strip_suffix(b"\n").unwrap_or(text).split(|&byte| byte == b'\n')
}

/// The words of a line, which blanks and tabs separate.
pub(crate) fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| b" \t\n".contains(byte)).filter(|word| !word.is_empty())
}

/// The value in the line that begins with `name`.
pub(crate) fn field<'a>(text: &'a [u8], name: &str) -> Option<&'a [u8]> {
    lines(text).find_map(|line| line.strip_prefix(name.as_bytes()))
}

/// The first word of a text, as a number.
pub(crate) fn number(text: &[u8], radix: u32) -> Option<u64> {
    let word = std::str::from_utf8(words(text).next()?).ok()?;
    u64::from_str_radix(word, radix).ok()
}

/// The fields of `/proc/PID/stat` after the name, which is in parentheses and may contain any byte.
pub(crate) fn after_name(stat: &[u8]) -> impl Iterator<Item = &[u8]> {
    words(stat.rsplit(|&byte| byte == b')').next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_newline_ends_a_line() {
        let text = "Name:\ta\r\u{85}\u{2028}Uid:\t7\nUid:\t0\t1\n".as_bytes();
        assert_eq!(lines(text).count(), 2);
        assert_eq!(field(text, "Uid:"), Some(&b"\t0\t1"[..]));
        assert_eq!(number(field(text, "Uid:").unwrap(), 10), Some(0));
        assert_eq!(field(text, "Gid:"), None);
    }

    #[test]
    fn a_name_may_contain_parentheses_and_any_byte() {
        let fields: Vec<_> = after_name(b"7 (a) R 1 \xff) S 3 4\n").collect();
        assert_eq!(fields, [&b"S"[..], b"3", b"4"]);
    }
}

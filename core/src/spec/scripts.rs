//! Scripts that a command line hands to an interpreter.

/// Interpreters, without the version in their names.
const INTERPRETERS: [&[u8]; 16] = [
    b"Rscript", b"bash", b"bun", b"dash", b"fish", b"ksh", b"lua", b"luajit", b"node", b"nodejs",
    b"perl", b"php", b"pypy", b"python", b"ruby", b"sh",
];

/// Options of these interpreters that take no argument and let the script follow.
const FLAGS: &[u8] = b"BIOSblsuvwx";

/// Returns the script that the words of a command line name for an interpreter, if it is plain which word that is.
pub(crate) fn operand<'a>(mut words: impl Iterator<Item = &'a [u8]>) -> Option<&'a [u8]> {
    let program = words.next()?.rsplit(|&byte| byte == b'/').next()?;
    let version = |byte: &u8| byte.is_ascii_digit() || *byte == b'.';
    let length = program.iter().rposition(|byte| !version(byte))? + 1;
    if !INTERPRETERS.contains(&&program[..length]) {
        return None;
    }
    for word in words {
        match word {
            [b'-', flags @ ..] => {
                if flags.is_empty() || !flags.iter().all(|flag| FLAGS.contains(flag)) {
                    return None;
                }
            }
            script => return Some(script).filter(|script| !script.is_empty()),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(line: &str) -> Option<&str> {
        let words = operand(line.split(' ').map(str::as_bytes))?;
        std::str::from_utf8(words).ok()
    }

    #[test]
    fn the_first_word_that_is_no_flag_is_the_script() {
        assert_eq!(script("python3.11 -u -BI x.py -c y"), Some("x.py"));
        assert_eq!(script("/usr/bin/node /home/u/x.js"), Some("/home/u/x.js"));
        assert_eq!(script("sh -x ./x.sh"), Some("./x.sh"));
    }

    #[test]
    fn a_word_that_may_be_anything_else_is_none() {
        let lines = [
            "python3 -c x",
            "python3 -m x",
            "sh -ec x",
            "python3 -",
            "python3",
            "cat x",
            "3.11 x",
            "",
        ];
        for line in lines {
            assert_eq!(script(line), None, "{line}");
        }
    }
}

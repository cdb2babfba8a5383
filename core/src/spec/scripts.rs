//! Scripts and modules that a command line hands to an interpreter.

/// Interpreters, without the version in their names.
const INTERPRETERS: [&[u8]; 16] = [
    b"Rscript", b"bash", b"bun", b"dash", b"fish", b"ksh", b"lua", b"luajit", b"node", b"nodejs",
    b"perl", b"php", b"pypy", b"python", b"ruby", b"sh",
];

/// Options of these interpreters that take no argument and let the script follow.
const FLAGS: &[u8] = b"BIOSblsuvwx";

/// What an interpreter is started with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operand<'a> {
    /// The path of a script.
    Script(&'a [u8]),
    /// The top package of a module of Python, which is looked up in the working directory first.
    Module(&'a [u8]),
}

/// Returns what the words of a command line name for an interpreter, if it is plain which word that is.
pub(crate) fn operand<'a>(mut words: impl Iterator<Item = &'a [u8]>) -> Option<Operand<'a>> {
    let program = words.next()?.rsplit(|&byte| byte == b'/').next()?;
    let version = |byte: &u8| byte.is_ascii_digit() || *byte == b'.';
    let length = program.iter().rposition(|byte| !version(byte))? + 1;
    let interpreter = &program[..length];
    if !INTERPRETERS.contains(&interpreter) {
        return None;
    }
    let mut is_isolated = false;
    while let Some(word) = words.next() {
        match word {
            b"-m" if interpreter == b"python" && !is_isolated => {
                let package = words.next()?.split(|&byte| byte == b'.').next()?;
                return Some(Operand::Module(package)).filter(|_| !package.is_empty());
            }
            [b'-', flags @ ..] => {
                if flags.is_empty() || !flags.iter().all(|flag| FLAGS.contains(flag)) {
                    return None;
                }
                // Python does not look in the working directory.
                is_isolated |= flags.contains(&b'I');
            }
            script => return Some(Operand::Script(script)).filter(|_| !script.is_empty()),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(line: &str) -> Option<Operand<'_>> {
        operand(line.split(' ').map(str::as_bytes))
    }

    #[test]
    fn the_first_word_that_is_no_flag_is_the_script() {
        assert_eq!(found("python3.11 -u -BI x.py -c y"), Some(Operand::Script(b"x.py")));
        assert_eq!(found("/usr/bin/node /home/u/x.js"), Some(Operand::Script(b"/home/u/x.js")));
        assert_eq!(found("sh -x ./x.sh"), Some(Operand::Script(b"./x.sh")));
    }

    #[test]
    fn python_may_be_started_with_a_module() {
        assert_eq!(found("python3 -m x"), Some(Operand::Module(b"x")));
        assert_eq!(found("/venv/bin/python -B -m x.y z"), Some(Operand::Module(b"x")));
        assert_eq!(found("perl -m x"), None);
        assert_eq!(found("python3 -m"), None);
        assert_eq!(found("python3 -I -m x"), None);
    }

    #[test]
    fn a_word_that_may_be_anything_else_is_none() {
        let lines = ["python3 -c x", "sh -ec x", "python3 -", "python3", "cat x", "3.11 x", ""];
        for line in lines {
            assert_eq!(found(line), None, "{line}");
        }
    }
}

//! Shows a call with its real arguments, as strace(1) does.

use std::fmt::Write as _;

use super::call::{Arg, Call};
use super::number;
use super::sequence::Sequence;

pub(crate) fn render(sequence: &Sequence, call: &Call, is_pid_1: bool) -> String {
    let mut text = format!("{}(", call.number.name);
    for (index, arg) in sequence.args(call).iter().enumerate() {
        if index > 0 {
            text.push_str(", ");
        }
        text.push_str(&show(sequence, arg));
    }
    text.push(')');
    if call.number == number::GETPID && is_pid_1 {
        text.push_str(" = 1");
    }
    text
}

fn show(sequence: &Sequence, arg: &Arg) -> String {
    match arg {
        Arg::Int(value) => value.to_string(),
        Arg::Named(_, name) => name.trim_end_matches('|').to_owned(),
        Arg::NamedAs(_, shown) | Arg::StructAs(_, shown) => shown.clone().into(),
        Arg::Shown(value, show) => show(*value),
        Arg::Words(place, count, show) => show(&sequence.words_at(*place, *count)),
        Arg::Null => "NULL".to_owned(),
        Arg::Text(place) => quote(sequence.bytes(*place, None)),
        Arg::Buffer(place, length) => quote(sequence.bytes(*place, Some(*length))),
        Arg::Lent(bytes) => quote(bytes),
        Arg::Strings(place, count) => show_strings(sequence.array(*place, *count), *count),
        Arg::Struct(_, shown) => (*shown).to_owned(),
        Arg::Cell(_) => "<fd>".to_owned(),
        Arg::Handle(handle) => handle.name().to_owned(),
        Arg::Mask => "<caller's mask>".to_owned(),
        Arg::Go => "<word>".to_owned(),
        Arg::Program => String::new(),
    }
}

/// An array of strings. Shows only the length of a long one, such as an environment, as strace(1) does.
fn show_strings<'a>(strings: impl Iterator<Item = &'a [u8]>, count: u32) -> String {
    const MOST: u32 = 16;
    if count > MOST {
        return format!("[/* {count} strings */]");
    }
    let strings: Vec<String> = strings.map(quote).collect();
    format!("[{}]", strings.join(", "))
}

pub(super) fn quote(bytes: &[u8]) -> String {
    const MOST: usize = 256;
    let mut text = String::from("\"");
    for byte in bytes.iter().take(MOST) {
        let _ = write!(text, "{}", byte.escape_ascii());
    }
    text.push('"');
    if bytes.len() > MOST {
        text.push('…');
    }
    text
}

impl Arg {
    /// A file mode, shown in octal.
    pub(crate) fn mode(mode: u32) -> Self {
        Self::Shown(mode.into(), |mode| {
            let (kind, mode) = (mode as u32 & libc::S_IFMT, mode as u32 & !libc::S_IFMT);
            if kind == libc::S_IFREG { format!("S_IFREG|0{mode:o}") } else { format!("0{mode:o}") }
        })
    }

    /// clone(2) flags, shown in hex and by name.
    pub(crate) fn clone_flags(flags: u64) -> Self {
        Self::Shown(flags, show_clone_flags)
    }

    /// A set of signals.
    pub(crate) fn signals(set: u64) -> Self {
        Self::Shown(set, |set| {
            let name = |signal: i32| {
                nix::sys::signal::Signal::try_from(signal).map_or("?", |signal| signal.as_str())
            };
            let signals = (1..=64).filter(|signal| set & (1 << (signal - 1)) != 0);
            format!("[{}]", signals.map(name).collect::<Vec<_>>().join(" "))
        })
    }
}

/// The names of the bits that are set; "0" if none is.
pub(super) fn bit_names(bits: u64, names: &[(u64, &str)]) -> String {
    let names: Vec<&str> =
        names.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).collect();
    if names.is_empty() { "0".to_owned() } else { names.join("|") }
}

/// clone(2) flags by name alone.
pub(crate) fn clone_flag_names(flags: u64) -> String {
    show_clone_flags(flags).split_once(' ').map(|(_, names)| names.to_owned()).unwrap_or_default()
}

pub(super) fn show_clone_flags(flags: u64) -> String {
    const NAMES: [(libc::c_int, &str); 11] = [
        (libc::CLONE_NEWPID, "CLONE_NEWPID"),
        (libc::CLONE_NEWNET, "CLONE_NEWNET"),
        (libc::CLONE_NEWNS, "CLONE_NEWNS"),
        (libc::CLONE_NEWUTS, "CLONE_NEWUTS"),
        (libc::CLONE_NEWIPC, "CLONE_NEWIPC"),
        (libc::CLONE_NEWUSER, "CLONE_NEWUSER"),
        (libc::CLONE_NEWCGROUP, "CLONE_NEWCGROUP"),
        (libc::CLONE_NEWTIME, "CLONE_NEWTIME"),
        (libc::CLONE_VM, "CLONE_VM"),
        (libc::CLONE_CHILD_CLEARTID, "CLONE_CHILD_CLEARTID"),
        (libc::CLONE_PARENT, "CLONE_PARENT"),
    ];
    let mut rest = flags;
    let mut names = Vec::new();
    for (flag, name) in NAMES {
        let flag = flag as u64;
        // The low byte is the exit signal, SIGCHLD (17), or CLONE_NEWTIME (0x80), never both.
        if rest & flag != 0 {
            names.push(name);
            rest &= !flag;
        }
    }
    if rest == libc::SIGCHLD as u64 {
        names.push("SIGCHLD");
    }
    format!("{flags:#x} {}", names.join("|"))
}

//! The files that a command is made of, for a profile that shows nothing but what is named.

use std::ffi::{CString, OsStr};
use std::fs;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::host::settings::open_regular;
use crate::spec::{CommandSpec, Payload, Spec, WorkingDirectory};

/// The most bytes of a script's first line, as in the kernel (`BINPRM_BUF_SIZE`).
const FIRST_LINE: usize = 256;

/// The most bytes of a pyvenv.cfg.
const MOST_SETTINGS: u64 = 64 << 10;

/// `spec` with the files that its command is made of, if its profile shows only what is listed and the command is
/// given by a path: the file, the interpreter that its first line names, and the Python that these belong to.
#[must_use]
pub(crate) fn with_files_of(spec: &Spec, payload: Payload<'_>) -> Option<Spec> {
    let Payload::Command(command) = payload else { return None };
    let program = given_path(command).filter(|_| spec.shows_listed_files_only())?;
    let mut found = Vec::new();
    add_program(&program, &mut found);
    // A script may name any file.
    if let Some(interpreter) = interpreter_of(&program).filter(|path| is_executable(path)) {
        add_program(&interpreter, &mut found);
    }
    let mut spec = spec.clone();
    let texts = found.into_iter().map(|path| CString::new(path.into_os_string().into_vec()));
    spec.shown.extend(texts.flatten());
    Some(spec)
}

/// The path of the program, unless it is looked up by its name.
fn given_path(command: &CommandSpec) -> Option<PathBuf> {
    let [candidate] = &command.candidates[..] else { return None };
    let path = Path::new(OsStr::from_bytes(candidate.to_bytes()));
    if !candidate.to_bytes().contains(&b'/') {
        return None;
    }
    if path.is_absolute() {
        return Some(path.to_owned());
    }
    let own = || std::env::current_dir().ok();
    let directory = match &command.working_directory {
        WorkingDirectory::Path(path) => own()?.join(OsStr::from_bytes(path.to_bytes())),
        WorkingDirectory::Caller => own()?,
    };
    Some(directory.join(path))
}

fn add_program(program: &Path, found: &mut Vec<PathBuf>) {
    found.push(program.to_owned());
    let own = program.parent();
    for directory in own.into_iter().chain(own.and_then(Path::parent)) {
        if let Some(base) = base_of_environment(directory) {
            found.push(directory.to_owned());
            add_prefix(&base, found);
        }
    }
    add_prefix(program, found);
}

/// Adds the prefix of a Python, found by its library as Python itself finds it, as spelt and as resolved.
fn add_prefix(python: &Path, found: &mut Vec<PathBuf>) {
    let resolved = fs::canonicalize(python).ok();
    for python in [Some(python), resolved.as_deref()].into_iter().flatten() {
        let Some(prefix) = python.parent().and_then(Path::parent) else { continue };
        if prefix.starts_with("/usr") {
            continue;
        }
        let entries = fs::read_dir(prefix.join("lib")).into_iter().flatten().flatten();
        let is_library = |entry: &fs::DirEntry| {
            entry.file_name().as_bytes().starts_with(b"python3")
                && entry.path().join("os.py").is_file()
        };
        if entries.into_iter().any(|entry| is_library(&entry)) {
            found.push(prefix.to_owned());
        }
    }
}

/// The Python that the environment in a directory is made from, if it is one.
fn base_of_environment(directory: &Path) -> Option<PathBuf> {
    let mut settings = String::new();
    let (file, _) = open_regular(&directory.join("pyvenv.cfg"), 0)?;
    file.take(MOST_SETTINGS).read_to_string(&mut settings).ok()?;
    let mut lines = settings.lines().filter_map(|line| line.split_once('='));
    let (_, home) = lines.find(|(key, _)| key.trim() == "home")?;
    Some(Path::new(home.trim()).join("python3"))
}

/// The interpreter that the first line of a script names.
pub(crate) fn interpreter_of(program: &Path) -> Option<PathBuf> {
    let mut line = Vec::with_capacity(FIRST_LINE);
    let (file, _) = open_regular(program, 0)?;
    file.take(FIRST_LINE as u64).read_to_end(&mut line).ok()?;
    let line = line.strip_prefix(b"#!")?.split(|&byte| byte == b'\n').next()?;
    let words = line.split(u8::is_ascii_whitespace);
    let interpreter = words.into_iter().find(|word| !word.is_empty())?;
    let path = Path::new(OsStr::from_bytes(interpreter));
    path.is_absolute().then(|| path.to_owned())
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

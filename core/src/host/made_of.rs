//! The files that a command is made of, for a profile that shows nothing but what is named.
//!
//! Another process may replace a directory by a link at any time. So a path is resolved first, only the resolved one is
//! looked at, and the launch shows nothing else.

use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::host::settings::open_regular;
use crate::spec::{CommandSpec, Payload, ShownPath, Spec, WorkingDirectory};

/// The most bytes of a script's first line, as in the kernel (`BINPRM_BUF_SIZE`).
const FIRST_LINE: usize = 256;

/// The most bytes of a pyvenv.cfg.
const MOST_SETTINGS: u64 = 64 << 10;

/// Directories with everything below them are shown to every command.
const SHOWN: [&str; 3] = ["/usr", "/bin", "/sbin"];

/// `spec` with the files that its command is made of, if its profile shows only what is listed: the program, the
/// interpreter that its first line names, and the Python that these belong to. `None` if these are shown anyway.
#[must_use]
pub(crate) fn with_files_of(spec: &Spec, payload: Payload<'_>) -> Option<Spec> {
    let Payload::Command(command) = payload else { return None };
    if !spec.shows_listed_files_only() {
        return None;
    }
    let program = program_of(command)?;
    let mut found = Vec::new();
    if !is_shown(&program) {
        add_program(resolve(&program)?, &mut found);
    }
    for interpreter in interpreters_of(&program, spec, command) {
        if !is_shown(&interpreter)
            && let Some(found_there) = resolve(&interpreter).filter(|(_, at)| is_interpreter(at))
        {
            add_program(found_there, &mut found);
        }
    }
    if found.is_empty() {
        return None;
    }
    let mut spec = spec.clone();
    spec.shown.extend(found);
    Some(spec)
}

/// The program: the file that is given, or the one that is found by its name in the command's search path.
///
/// A program that is not shown by itself is passed over, unless it belongs to a Python: a shim of a version manager, say,
/// is of no use without the files that it starts.
pub(crate) fn program_of(command: &CommandSpec) -> Option<PathBuf> {
    if let [given] = &command.candidates[..] {
        return absolute(command, given);
    }
    let candidates = command.candidates.iter().filter_map(|candidate| absolute(command, candidate));
    let is_found = |candidate: &PathBuf| {
        is_executable(candidate) && (leads_to_shown(candidate) || belongs_to_python(candidate))
    };
    candidates.into_iter().find(is_found)
}

fn leads_to_shown(program: &Path) -> bool {
    fs::canonicalize(program).is_ok_and(|resolved| is_below_shown(&resolved))
}

fn belongs_to_python(program: &Path) -> bool {
    let names_python =
        |word: PathBuf| word.file_name().is_some_and(|name| name.as_bytes().starts_with(b"python"));
    let is_script =
        || words_of_first_line(program).is_some_and(|mut words| words.any(names_python));
    python_of(program).is_some() || is_script()
}

/// `None` for a bare name, and in a directory that is gone.
fn absolute(command: &CommandSpec, candidate: &CString) -> Option<PathBuf> {
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

/// Whether every command sees the program, and each link that leads to it.
pub(crate) fn is_shown(program: &Path) -> bool {
    if !is_below_shown(program) {
        return false;
    }
    match fs::read_link(program) {
        // As python3 -> python3.11.
        Ok(target) if target.components().count() == 1 && program.exists() => {
            is_shown(&program.with_file_name(target))
        }
        Ok(_) => false,
        Err(_) => true,
    }
}

fn is_below_shown(program: &Path) -> bool {
    SHOWN.iter().any(|directory| program.starts_with(directory))
}

/// A path as spelt, and the path without links that it leads to.
type Resolved<'a> = (&'a Path, PathBuf);

fn resolve(path: &Path) -> Option<Resolved<'_>> {
    Some((path, fs::canonicalize(path).ok()?))
}

fn add((path, target): Resolved<'_>, found: &mut Vec<ShownPath>) {
    found.push(ShownPath { path: path.to_owned(), target: Some(target) });
}

fn add_program((path, target): Resolved<'_>, found: &mut Vec<ShownPath>) {
    add((path, target), found);
    let own = path.parent();
    for directory in own.into_iter().chain(own.and_then(Path::parent)).filter_map(resolve) {
        if let Some(base) = base_of_environment(&directory.1) {
            add(directory, found);
            add_prefix(&base, found);
        }
    }
    add_prefix(path, found);
}

/// Adds the prefix of a Python, as spelt and as resolved.
fn add_prefix(python: &Path, found: &mut Vec<ShownPath>) {
    let resolved = fs::canonicalize(python).ok();
    let pythons = [Some(python), resolved.as_deref()].into_iter().flatten();
    for prefix in pythons.filter_map(place_of_prefix).filter_map(resolve) {
        if has_library(&prefix.1) {
            add(prefix, found);
        }
    }
}

/// The prefix of a Python, found by its library as Python itself finds it, unless that is below /usr.
fn prefix_of(python: &Path) -> Option<&Path> {
    place_of_prefix(python).filter(|prefix| has_library(prefix))
}

fn place_of_prefix(python: &Path) -> Option<&Path> {
    python.parent()?.parent().filter(|prefix| !prefix.starts_with("/usr"))
}

fn has_library(prefix: &Path) -> bool {
    let mut entries = fs::read_dir(prefix.join("lib")).into_iter().flatten().flatten();
    entries.any(|entry| {
        entry.file_name().as_bytes().starts_with(b"python3") && entry.path().join("os.py").is_file()
    })
}

/// The environment or the prefix of a Python that a program in its `bin` needs.
pub(crate) fn python_of(program: &Path) -> Option<&Path> {
    let directory = program.parent()?.parent()?;
    if directory.join("pyvenv.cfg").is_file() { Some(directory) } else { prefix_of(program) }
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
    words_of_first_line(program)?.next().filter(|interpreter| interpreter.is_absolute())
}

/// The interpreter, and the program that it looks up if it is env(1).
fn interpreters_of(program: &Path, spec: &Spec, command: &CommandSpec) -> Vec<PathBuf> {
    let Some(mut words) = words_of_first_line(program) else { return Vec::new() };
    let Some(interpreter) = words.next().filter(|path| path.is_absolute()) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    if interpreter.file_name() == Some(OsStr::new("env"))
        && let Some(name) = words.find_map(|word| operand_of_env(&word))
    {
        found.extend(look_up(&name, &command.envp.lines_for(spec)));
    }
    found.push(interpreter);
    found
}

/// A word of env(1), if it may be the program. `-S` may stand right before it.
fn operand_of_env(word: &Path) -> Option<PathBuf> {
    let word = word.as_os_str().as_bytes();
    let word = word.strip_prefix(b"-S").unwrap_or(word);
    let is_operand = !word.is_empty() && !word.starts_with(b"-") && !word.contains(&b'=');
    is_operand.then(|| PathBuf::from(OsStr::from_bytes(word)))
}

/// The first program of this name in the `PATH` of an environment.
fn look_up(name: &Path, environment: &[u8]) -> Option<PathBuf> {
    let mut variables = environment.split(|&byte| byte == 0);
    let path = variables.find_map(|line| line.strip_prefix(b"PATH="))?;
    let directories = path.split(|&byte| byte == b':').map(OsStr::from_bytes).map(Path::new);
    let absolute = directories.filter(|directory| directory.is_absolute());
    absolute.map(|directory| directory.join(name)).find(|program| is_executable(program))
}

fn words_of_first_line(program: &Path) -> Option<impl Iterator<Item = PathBuf>> {
    let mut line = Vec::with_capacity(FIRST_LINE);
    let (file, _) = open_regular(program, 0)?;
    file.take(FIRST_LINE as u64).read_to_end(&mut line).ok()?;
    let line = line.strip_prefix(b"#!")?.split(|&byte| byte == b'\n').next()?;
    let words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let words: Vec<_> = words.map(|word| PathBuf::from(OsStr::from_bytes(word))).collect();
    Some(words.into_iter())
}

/// Whether an interpreter that a script names is shown. A script may name any file, and so a script of another author with
/// passwords in it: only binary programs are shown, and what lies in a Python, which is shown as a whole. A link in a
/// Python may lead anywhere.
fn is_interpreter(resolved: &Path) -> bool {
    is_executable(resolved) && (is_binary(resolved) || python_of(resolved).is_some())
}

fn is_binary(path: &Path) -> bool {
    const MAGIC: [u8; 4] = *b"\x7fELF";
    let mut start = [0; MAGIC.len()];
    let read = |(mut file, _): (File, _)| file.read_exact(&mut start).ok();
    open_regular(path, 0).and_then(read).is_some() && start == MAGIC
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

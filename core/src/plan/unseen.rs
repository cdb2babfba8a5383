//! What the command needs of the host and its container does not show: the reason of a failure, or a warning.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::call::Call;
use super::number;
use super::sequence::Sequence;
use crate::error::{Notice, Remedy, Setting, SpawnError, quoted};
use crate::host::Host;
use crate::host::files::{Listed, Unseen};
use crate::host::made_of::{self, interpreter_of};
use crate::spec::scripts::{self, Operand};
use crate::spec::{CommandSpec, Environment, Spec, WorkingDirectory, path_variables};
use crate::step::Step;

/// The view of a container whose profile lists what it shows.
#[derive(Clone, Debug)]
pub(super) struct Outlook {
    listed: Arc<Listed>,
    /// The command's directory, as the caller names it.
    directory: PathBuf,
}

impl Outlook {
    pub(super) fn new(listed: &Arc<Listed>, command: Option<&CommandSpec>, host: &Host) -> Self {
        let callers = host.working_directory.as_deref().unwrap_or(c"/");
        Self::at(Arc::clone(listed), path_of(callers), command)
    }

    /// `callers`: the caller's directory.
    fn at(listed: Arc<Listed>, callers: &Path, command: Option<&CommandSpec>) -> Self {
        let directory = match command.map(|command| &command.working_directory) {
            Some(WorkingDirectory::Path(given)) => callers.join(path_of(given)),
            _ => callers.to_owned(),
        };
        Self { listed, directory }
    }

    /// Gives the error of a failed call its reason, if that is a file or directory that exists outside only.
    pub(super) fn explain_failure(&self, sequence: &Sequence, call: &Call, error: &mut SpawnError) {
        if !matches!(error.errno, libc::ENOENT | libc::ENOTDIR) {
            return;
        }
        let explained = match error.step {
            Step::Exec => (sequence.calls.iter())
                .filter(|call| call.number == number::EXECVE)
                .filter_map(|call| sequence.filename(call))
                .find_map(|candidate| self.command(&self.directory.join(candidate))),
            Step::WorkingDirectory => {
                let explained = self.listed.missing(&self.directory);
                explained.map(|unseen| (relation(&unseen, &self.directory), unseen))
            }
            _ => None,
        };
        let Some((relation, unseen)) = explained else { return };
        let named = error.filename.as_deref().map(Path::new);
        // A command that was looked up: its error names the bare name.
        let relation = match (relation, named) {
            (Relation::Itself, Some(named)) if call.step == Step::Exec && is_bare(named) => {
                Relation::Found
            }
            (relation, _) => relation,
        };
        let Phrase { reason, hint } = Phrase::of(&relation, &unseen);
        (error.reason, error.hint) = (Some(Box::new(reason)), Some(hint));
    }

    /// Returns what is missing inside to execute a program: its file, or its interpreter.
    fn command(&self, program: &Path) -> Option<(Relation<'static>, Unseen)> {
        missing_program(&self.listed, program)
    }

    /// Returns a warning if the name of a command leads to `program` outside, and to another one inside.
    fn another_program(&self, command: &CommandSpec, program: &Path) -> Option<Notice> {
        let unseen = self.listed.missing(program)?;
        let candidates = command.candidates.iter().map(|candidate| path_of(candidate));
        let mut rest = candidates.skip_while(|candidate| *candidate != program).skip(1);
        let is_inside =
            |candidate: &Path| candidate.is_file() && self.listed.missing(candidate).is_none();
        let another = rest.find(|candidate| is_inside(candidate))?;
        Some(Phrase::of(&Relation::Another(another), &unseen).into())
    }

    /// Returns the file or directory that an interpreter is started with.
    fn source_of(&self, command: &CommandSpec) -> Option<(Relation<'static>, PathBuf)> {
        let at = |name: &[u8]| self.directory.join(OsStr::from_bytes(name));
        match operand_of(command)? {
            Operand::Script(name) => Some((Relation::Script, at(name))),
            Operand::Module(name) => {
                let package = [at(name), at(&[name, b".py"].concat())];
                let found = package.into_iter().find(|path| path.exists())?;
                Some((Relation::Module, found))
            }
        }
    }

    /// Returns the warnings about the script or module and the variables of a command.
    pub(super) fn notices(&self, spec: &Spec, command: &CommandSpec) -> Vec<Notice> {
        let about_script = self.source_of(command).and_then(|(relation, source)| {
            let unseen = self.listed.missing(&source)?;
            Some(Phrase::of(&relation, &unseen).into())
        });
        about_script
            .into_iter()
            .chain(notices(&self.listed, &command.envp.lines_for(spec)))
            .collect()
    }
}

/// Returns the warnings about the script and the variables of a command that enters a container of `spec`, and about the
/// program that its name leads to.
#[must_use]
pub fn entering_notices(spec: &Spec, command: &CommandSpec) -> Vec<Notice> {
    if !spec.shows_listed_files_only() {
        return Vec::new();
    }
    let program = made_of::program_of(command).filter(|program| !made_of::is_shown(program));
    // Gathering what is shown takes longer than these looks.
    let is_clear = program.is_none()
        && operand_of(command).is_none()
        && !names_existing_path(&command.envp.lines_for(spec));
    if is_clear {
        return Vec::new();
    }
    let Some((listed, directory)) = listed(spec).zip(std::env::current_dir().ok()) else {
        return Vec::new();
    };
    let outlook = Outlook::at(listed, &directory, Some(command));
    let another = program.and_then(|program| outlook.another_program(command, &program));
    another.into_iter().chain(outlook.notices(spec, command)).collect()
}

/// Returns a warning for each variable that names a path which exists outside and is missing in a container of `spec`.
#[must_use]
pub fn variable_notices(spec: &Spec, environment: &Environment) -> Vec<Notice> {
    let text = environment.lines_for(spec);
    if !spec.shows_listed_files_only() || !names_existing_path(&text) {
        return Vec::new();
    }
    listed(spec).map_or_else(Vec::new, |listed| notices(&listed, &text))
}

fn operand_of(command: &CommandSpec) -> Option<Operand<'_>> {
    scripts::operand(command.argv.iter().map(|argument| argument.to_bytes()))
}

fn names_existing_path(environment: &[u8]) -> bool {
    let mut paths =
        lines(environment).filter_map(path_variables::paths).flat_map(|(_, paths)| paths);
    paths.any(|path| Path::new(OsStr::from_bytes(path)).exists())
}

fn notices(listed: &Listed, environment: &[u8]) -> Vec<Notice> {
    let missing = |(name, mut paths): (&'static str, _)| {
        let unseen = Iterator::find_map(&mut paths, |path: &[u8]| {
            listed.missing_or_replaced(Path::new(OsStr::from_bytes(path)))
        })?;
        Some(Phrase::of(&Relation::Variable(name), &unseen).into())
    };
    lines(environment).filter_map(path_variables::paths).filter_map(missing).collect()
}

fn lines(environment: &[u8]) -> impl Iterator<Item = &[u8]> {
    environment.split(|&byte| byte == 0).filter(|line| !line.is_empty())
}

/// What a container of `spec` sees of the host, if its profile lists that.
fn listed(spec: &Spec) -> Option<Arc<Listed>> {
    let files = Host::gather(spec).ok()?.files?;
    (*files).ok()?.listed
}

/// Explains why an absolute path is missing in a container of `spec`: it exists outside, and the profile does not show
/// it. For a program, that may be its interpreter. `None` if that is not the reason.
#[must_use]
pub fn explain_missing(spec: &Spec, path: &Path, is_program: bool) -> Option<Notice> {
    let listed = listed(spec)?;
    let (relation, unseen) = match listed.missing(path) {
        Some(unseen) => (Relation::Found, unseen),
        None if is_program => missing_program(&listed, path)?,
        None => return None,
    };
    Some(Phrase::of(&relation, &unseen).into())
}

/// Returns what is missing inside to execute a program: its file, or its interpreter.
fn missing_program(listed: &Listed, program: &Path) -> Option<(Relation<'static>, Unseen)> {
    if let Some(unseen) = listed.missing(program) {
        return Some((relation(&unseen, program), unseen));
    }
    let interpreter = interpreter_of(program)?;
    Some((Relation::Interpreter, listed.missing(&interpreter)?))
}

/// How a path that is not shown relates to the one that an error or a warning names.
enum Relation<'a> {
    Itself,
    /// Links lead to it.
    Target,
    /// The sentence names it.
    Found,
    Interpreter,
    Script,
    Module,
    Variable(&'static str),
    /// The name of the command leads to this program inside.
    Another(&'a Path),
}

fn relation(unseen: &Unseen, named: &Path) -> Relation<'static> {
    let is_same = named.components().eq(unseen.path.components());
    if is_same { Relation::Itself } else { Relation::Target }
}

/// A reason and a remedy.
struct Phrase {
    reason: Remedy,
    hint: Remedy,
}

impl Phrase {
    fn of(relation: &Relation<'_>, unseen: &Unseen) -> Self {
        let path = quoted(&unseen.path);
        let subject = match relation {
            Relation::Itself => "it exists outside".to_owned(),
            Relation::Target => format!("it leads to {path}, which exists outside"),
            Relation::Found => format!("{path} exists outside"),
            Relation::Interpreter => format!("its interpreter {path} exists outside"),
            Relation::Script => format!("the script {path} exists outside"),
            Relation::Module => format!("the module {path} exists outside"),
            Relation::Variable(name) => {
                format!("the variable {name} names {path}, which exists outside")
            }
            Relation::Another(program) => {
                let program = quoted(program);
                format!("{program} starts in place of {path}, which exists outside")
            }
        };
        let profile = Setting::Profile(unseen.profile.name());
        let mount = Setting::ReadOnlyMount(unseen.mount.display().to_string());
        Self {
            reason: Remedy::with(
                format!("{subject}, but {{}} shows only /usr and what is named"),
                profile,
            ),
            hint: Remedy::with("{}", mount),
        }
    }
}

impl From<Phrase> for Notice {
    fn from(Phrase { reason, hint }: Phrase) -> Self {
        Self { reason, hint }
    }
}

fn is_bare(name: &Path) -> bool {
    !name.as_os_str().as_bytes().contains(&b'/')
}

fn path_of(text: &CStr) -> &Path {
    Path::new(OsStr::from_bytes(text.to_bytes()))
}

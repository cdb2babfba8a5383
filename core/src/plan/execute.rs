//! The command: descriptors, identity, signals, exec.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;

use minidocker_init::program::on_error;

use super::call::{Arg, Call, Handle, at_cwd, named};
use super::confine::Confined;
use super::ids::restore_dumpable;
use super::number;
use super::sequence::Sequence;
use crate::error::{Remedy, Setting, SpawnError, SpecError};
use crate::host::Host;
use crate::spec::namespaces::{Kind, NamespaceOptions};
use crate::spec::profile::Profile;
use crate::spec::{CommandSpec, Payload, Spec, WorkingDirectory};
use crate::step::Step;

/// Sets standard input, output and error, and the descriptors that survive exec: those of `command`, and `kept` for
/// the helper.
pub(super) fn descriptors(sequence: &mut Sequence, command: &CommandSpec, kept: &[Handle]) {
    redirect(sequence, command.stdio);
    if command.close_fds {
        let args = [Arg::Int(3), Arg::Int(u32::MAX.into()), named!(CLOSE_RANGE_CLOEXEC)];
        sequence
            .call(Step::Descriptors, number::CLOSE_RANGE, args)
            .note("they close when the command is executed");
    }
    let passed = command.pass_fds.iter().map(|&fd| Arg::from(fd));
    let kept = kept.iter().map(|&handle| Arg::from(handle));
    for fd in passed.chain(kept) {
        keep(sequence, Step::Descriptors, fd);
    }
}

/// Sets the descriptors of an idle init: none of the caller's, and `kept` for the helper.
pub(super) fn no_descriptors(sequence: &mut Sequence, kept: &[Handle]) {
    let unused = sequence.cell();
    sequence
        .call(Step::Stdio, number::EPOLL_CREATE1, [named!(EPOLL_CLOEXEC)])
        .note("neither readable nor writable; /dev/null may be missing or nodev")
        .into(unused);
    for target in 0..3 {
        sequence.call(Step::Stdio, number::DUP3, [unused.into(), Arg::Int(target), Arg::Int(0)]);
    }
    let args = [Arg::Int(3), Arg::Int(u32::MAX.into()), named!(CLOSE_RANGE_CLOEXEC)];
    sequence.call(Step::Descriptors, number::CLOSE_RANGE, args);
    for &handle in kept {
        keep(sequence, Step::Descriptors, handle.into());
    }
}

fn keep(sequence: &mut Sequence, step: Step, fd: Arg) {
    sequence.call(step, number::FCNTL, [fd, named!(F_SETFD), Arg::Int(0)]);
}

/// dup3(2) onto 0, 1 and 2. A source below 3 could be overwritten before it is duplicated, so it is first duplicated
/// to a number above 2, unless it is in its place already.
pub(super) fn redirect(sequence: &mut Sequence, stdio: [Option<i32>; 3]) {
    let mut moved = [None; 3];
    for (target, source) in (0_i32..).zip(stdio) {
        if let Some(source) = source.filter(|&source| source < 3 && source != target) {
            let cell = sequence.cell();
            let args = [source.into(), named!(F_DUPFD_CLOEXEC), Arg::Int(3)];
            sequence.call(Step::Stdio, number::FCNTL, args).into(cell);
            moved[target as usize] = Some(cell);
        }
    }
    for (target, source) in (0_i32..).zip(stdio) {
        let Some(source) = source else { continue };
        if source == target {
            keep(sequence, Step::Stdio, source.into());
        } else {
            let source = moved[target as usize].map_or_else(|| source.into(), Arg::from);
            sequence.call(Step::Stdio, number::DUP3, [source, target.into(), Arg::Int(0)]);
        }
    }
}

/// The calls from the working directory to exec. `shares_memory`: whether the process runs in the caller's memory.
pub(super) fn execute(
    sequence: &mut Sequence,
    spec: &Spec,
    confined: &Confined,
    command: &CommandSpec,
    host: &Host,
    shares_memory: bool,
    start: Start,
) -> Result<(), SpecError> {
    prepare_process(sequence, confined, command, host, shares_memory, start);
    exec(sequence, spec, command);
    confined.check(sequence, !shares_memory)
}

/// The calls from the working directory to the filter, in the order of `subprocess`: calls that may need privileges
/// come before the process gives these up.
pub(super) fn prepare_process(
    sequence: &mut Sequence,
    confined: &Confined,
    command: &CommandSpec,
    host: &Host,
    shares_memory: bool,
    start: Start,
) {
    change_directory(sequence, command, host, start.fresh_root);
    if let Some(umask) = command.umask {
        sequence.call(Step::Umask, number::UMASK, [Arg::mode(umask)]);
    }
    if start.session && command.new_session {
        sequence.call(Step::Session, number::SETSID, []);
    }
    if command.terminal {
        let args = [Arg::Int(0), named!(TIOCSCTTY), Arg::Int(0)];
        sequence.call(Step::Terminal, number::IOCTL, args);
        if let Some(user) = command.user {
            // As login(1) does. The group stays: without root the group tty has no id inside.
            let path = sequence.text(c"");
            let args = [Arg::Int(0), path, user.into(), Arg::Int(-1), named!(AT_EMPTY_PATH)];
            let call = sequence.call(Step::Terminal, number::FCHOWNAT, args);
            call.ignore().note("so that the user may open it by name");
        }
    }
    if let Some(group) = command.process_group.filter(|_| !command.new_session) {
        sequence.call(Step::ProcessGroup, number::SETPGID, [Arg::Int(0), group.into()]);
    }
    confined.before_user(sequence);
    become_user(sequence, command, host, shares_memory);
    confined.after_user(sequence, command.user.is_none_or(|user| user == 0));
    let args = [named!(SIG_SETMASK), Arg::Mask, Arg::Null, Arg::Int(8)];
    sequence.call(Step::SignalMask, number::RT_SIGPROCMASK, args).note("the caller's mask");
    confined.last(sequence);
}

/// The state of the process that executes the command.
#[derive(Clone, Copy)]
pub(super) struct Start {
    /// Whether the process still has to start a session for the command.
    pub(super) session: bool,
    /// Whether the root directory, or the file system at the caller's directory, differs from the caller's.
    pub(super) fresh_root: bool,
}

fn change_directory(sequence: &mut Sequence, command: &CommandSpec, host: &Host, fresh_root: bool) {
    let chdir = |sequence: &mut Sequence, path: &CStr| {
        let text = sequence.text(path);
        sequence.call(Step::WorkingDirectory, number::CHDIR, [text]).about(path);
    };
    let callers_own = |sequence: &mut Sequence| {
        if let Some(own) = &host.working_directory {
            let text = sequence.text(own);
            sequence
                .call(Step::WorkingDirectory, number::CHDIR, [text])
                .ignore()
                .skip(1)
                .note("the caller's directory; / where it does not exist inside");
        }
        chdir(sequence, c"/");
    };
    match &command.working_directory {
        WorkingDirectory::Path(path) if fresh_root => {
            if path.to_bytes().first() != Some(&b'/') {
                callers_own(sequence);
            }
            enter_directory(sequence, path);
        }
        WorkingDirectory::Path(path) => chdir(sequence, path),
        WorkingDirectory::Caller if fresh_root => callers_own(sequence),
        WorkingDirectory::Caller => {}
    }
}

/// Changes to a directory inside. Refuses magic links: `/proc/self/fd/7` could lead to a directory outside.
fn enter_directory(sequence: &mut Sequence, path: &CStr) {
    const STEP: Step = Step::WorkingDirectory;
    let directory = sequence.cell();
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    let how = [flags as u64, 0, libc::RESOLVE_NO_MAGICLINKS];
    let length = size_of_val(&how);
    let shown = "{O_PATH|O_DIRECTORY|O_CLOEXEC, 0, RESOLVE_NO_MAGICLINKS}";
    let args = [at_cwd(), sequence.text(path), sequence.words_shown(&how, shown), length.into()];
    sequence
        .call(STEP, number::OPENAT2, args)
        .about(path)
        .note("no magic link leads outside")
        .into(directory);
    sequence.call(STEP, number::FCHDIR, [directory.into()]).about(path);
    sequence.call(STEP, number::CLOSE, [directory.into()]);
}

fn become_user(sequence: &mut Sequence, command: &CommandSpec, host: &Host, shares_memory: bool) {
    if let Some(groups) = &command.groups {
        let bytes: Vec<u8> = groups.iter().flat_map(|group| group.to_ne_bytes()).collect();
        let list = sequence.structure_as(&bytes, format!("{groups:?}"));
        sequence.call(Step::Groups, number::SETGROUPS, [groups.len().into(), list]);
    }
    if let Some(group) = command.group {
        sequence.call(Step::Group, number::SETRESGID, [group.into(), group.into(), group.into()]);
    }
    if let Some(user) = command.user {
        sequence.call(Step::User, number::SETRESUID, [user.into(), user.into(), user.into()]);
    }
    if command.group.or(command.user).is_some() {
        restore_dumpable(sequence, host, shares_memory);
    }
}

fn exec(sequence: &mut Sequence, spec: &Spec, command: &CommandSpec) {
    let argv = sequence.strings(command.argv.iter().map(AsRef::as_ref));
    let envp = sequence.lines(&command.envp.lines_for(spec));
    for candidate in &command.candidates {
        let path = sequence.text(candidate);
        sequence
            .call(Step::Exec, number::EXECVE, [path, argv.clone(), envp.clone()])
            .about(candidate)
            .on_error(on_error::EXEC);
    }
}

/// Gives the error of execve(2) the command's name, if that was looked up, and the string that is too long, if one is.
pub(super) fn explain_failure(sequence: &Sequence, call: &Call, error: &mut SpawnError) {
    /// The kernel's `MAX_ARG_STRLEN`, in pages.
    const MOST_PAGES: usize = 32;
    let strings = |arg: &Arg| match arg {
        Arg::Strings(place, count) => sequence.array(*place, *count).collect(),
        _ => Vec::new(),
    };
    let [_, argv, envp] = sequence.args(call) else { return };
    let (argv, envp) = (strings(argv), strings(envp));
    let tried = error.filename.as_ref().map_or(&[][..], |path| path.as_bytes());
    if let Some(&name) = argv.first()
        && !name.contains(&b'/')
        && tried.strip_suffix(name).is_some_and(|directory| directory.ends_with(b"/"))
    {
        error.filename = Some(OsStr::from_bytes(name).to_owned());
    }
    let most = rustix::param::page_size() * MOST_PAGES;
    let longest = argv.iter().chain(&envp).map(|string| string.len()).max().unwrap_or(0);
    if error.errno == libc::E2BIG && longest >= most {
        let remedy = format!(
            "One argument or environment variable has {longest} bytes, and the kernel takes {} in each: \
             pass a file",
            most - 1
        );
        error.hint = Some(remedy.into());
    }
}

/// execveat(2) of the helper.
pub(super) fn exec_helper(sequence: &mut Sequence, program: Handle, report: Handle) {
    let path = sequence.text(c"");
    let argv = sequence.helper_arguments(program, report);
    let envp = sequence.strings([]);
    let args = [Handle::Helper.into(), path, argv, envp, named!(AT_EMPTY_PATH)];
    sequence
        .call(Step::ExecHelper, number::EXECVEAT, args)
        .note("from a sealed memfd: the new root need not contain it");
}

/// execveat(2) of the helper without a program; it ends at once.
pub(crate) fn exec_bare_helper(sequence: &mut Sequence) {
    let path = sequence.text(c"");
    let argv = sequence.strings([c"minidocker-init"]);
    let envp = sequence.strings([]);
    let args = [Handle::Helper.into(), path, argv, envp, named!(AT_EMPTY_PATH)];
    sequence.call(Step::ExecHelper, number::EXECVEAT, args);
}

/// Refuses commands that are wrong on any machine.
pub(super) fn check(
    new: NamespaceOptions,
    profile: Profile,
    payload: Payload<'_>,
) -> Result<(), SpecError> {
    let (Payload::Command(command) | Payload::Fork(command)) = payload else { return Ok(()) };
    let executes = matches!(payload, Payload::Command(_));
    if executes && (command.argv.is_empty() || command.candidates.is_empty()) {
        return Err(SpecError::new(
            "args",
            "[]",
            "there is no command",
            "Give at least a program's name",
        ));
    }
    if !command.new_session && new.contains(Kind::Pid) {
        return Err(SpecError::new(
            "new_session",
            false,
            "a container with a new PID namespace is always in a session of its own",
            Remedy::with("Leave it out, or {}", Setting::SharedNamespace(Kind::Pid.name())),
        ));
    }
    if !command.new_session && profile != Profile::Namespaces {
        return Err(SpecError::new(
            "new_session",
            false,
            format!(
                "with profile={profile} the command is always in a session of its own: in the caller's \
                 it could type into the caller's terminal"
            ),
            "Leave it out",
        ));
    }
    if let Some(group) = command.process_group.filter(|&group| group > 0 && command.new_session) {
        return Err(SpecError::new(
            "process_group",
            group.to_string(),
            "the leader of a new session cannot join another process group",
            "Pass 0 or leave it out, or stay in the session of the caller",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(stdio: [Option<i32>; 3]) -> Vec<(&'static str, Vec<String>)> {
        let mut sequence = Sequence::default();
        redirect(&mut sequence, stdio);
        let show = |arg: &Arg| match arg {
            Arg::Int(value) => value.to_string(),
            Arg::Named(_, name) => name.trim_end_matches('|').to_owned(),
            Arg::Cell(_) => "moved".to_owned(),
            other => format!("{other:?}"),
        };
        let calls = sequence.calls.iter();
        calls
            .map(|call| (call.number.name, sequence.args(call).iter().map(show).collect()))
            .collect()
    }

    #[test]
    fn swapped_descriptors_move_up_before_they_are_overwritten() {
        let calls = calls([None, Some(2), Some(1)]);
        let names: Vec<_> =
            calls.iter().map(|(name, args)| (*name, args[0].as_str(), args[1].as_str())).collect();
        assert_eq!(
            names,
            [
                ("fcntl", "2", "F_DUPFD_CLOEXEC"),
                ("fcntl", "1", "F_DUPFD_CLOEXEC"),
                ("dup3", "moved", "1"),
                ("dup3", "moved", "2"),
            ]
        );
    }

    #[test]
    fn a_descriptor_that_is_in_place_only_loses_close_on_exec() {
        assert_eq!(calls([Some(0), None, None])[0].1[1], "F_SETFD");
    }
}

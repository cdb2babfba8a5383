//! The stages of a plan: the calls of each process until it executes the next program.

use minidocker_init::program::{registration, role};

use super::call::{Arg, Handle, named};
use super::confine::Confined;
use super::ids::become_mapped;
use super::kernel_filesystems::KernelFilesystems;
use super::namespaces::clone_flags;
use super::sequence::Sequence;
use super::setup::NamespaceSetup;
use super::{execute, inside, number};
use crate::error::SpecError;
use crate::host::Host;
use crate::host::files::Files;
use crate::host::ids::Ids;
use crate::host::target::Target;
use crate::spec::namespaces::{Kind, NamespaceOptions};
use crate::spec::{CommandSpec, Spec};
use crate::step::Step;

/// The calls that one process makes until it executes the next program.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    /// The helper's [`role`] in this stage; 0 for the first stage, which runs without the helper.
    pub(crate) role: u32,
    pub(crate) sequence: Sequence,
}

/// Puts the stages together.
pub(super) struct StageBuilder<'a> {
    pub(super) spec: &'a Spec,
    pub(super) host: &'a Host,
    pub(super) command: Option<&'a CommandSpec>,
    pub(super) forks: bool,
    pub(super) new: NamespaceOptions,
    pub(super) files: Option<&'a Files>,
    /// How to reach /proc and /sys once the namespaces are set up.
    pub(super) kernel_fs: KernelFilesystems,
    /// The range of groups that may use ICMP sockets.
    pub(super) ping_group_range: (u32, u32),
    pub(super) stages: Vec<Stage>,
}

impl StageBuilder<'_> {
    pub(super) fn stage(&mut self, role: u32) {
        self.stages.push(Stage { role, sequence: Sequence::with_room() });
    }

    pub(super) fn sequence(&mut self) -> &mut Sequence {
        &mut self.stages.last_mut().expect("there is a first stage").sequence
    }

    /// Whether PID 1 (or the process that holds the namespaces) is the helper.
    fn has_init(&self) -> bool {
        self.spec.init || self.command.is_none() || self.forks
    }

    /// Whether init waits for the exec of the command, and reports both that and failures on its control socket. With a
    /// joiner or an idle init failures are reported on a pipe, which exec closes.
    pub(super) fn reports_on_control(&self, target: bool) -> bool {
        self.spec.init && self.command.is_some() && !target && !self.forks
    }

    fn shares_memory(&self) -> bool {
        self.stages.len() == 1
    }

    /// Whether a process of the command's user could trace the child between the change of ids and exec, and read the
    /// caller's memory through it. In the caller's user namespace it could, because the ids are equal then. In a new
    /// one no process inside has privileges over the child yet, and outside only the caller's user has.
    fn must_not_share_memory(&self) -> bool {
        let user = self.command.and_then(|command| command.user);
        !self.new.contains(Kind::User) && user.is_some_and(|user| user != self.host.uid)
    }

    /// The descriptor of the next stage's program.
    fn next_program(&self) -> Handle {
        Handle::Program(self.stages.len() as u8 - 1)
    }

    /// The signals whose default action is restored even if the caller ignores them.
    pub(super) fn signals_to_reset(&self) -> u64 {
        let bit = |signal: i32| 1_u64 << (signal - 1);
        let mut also = 0;
        if self.command.is_none_or(|command| command.restore_signals) {
            also |= bit(libc::SIGPIPE) | bit(libc::SIGXFSZ);
        }
        also
    }

    /// The descriptors that the next program and later ones need.
    fn kept(&self, target: bool) -> Vec<Handle> {
        let mut kept = vec![self.next_program()];
        if !self.reports_on_control(target) {
            kept.push(Handle::Report);
        }
        if target {
            kept.push(Handle::Target);
            kept.extend(self.trees());
            if self.spec.die_with_parent {
                kept.push(Handle::Watchdog);
            }
        }
        if self.has_init() {
            kept.push(Handle::Control);
            if self.spec.die_with_parent {
                kept.push(Handle::Caller);
            }
            if target {
                kept.push(Handle::Program(self.stages.len() as u8));
                kept.push(Handle::Helper);
            }
        }
        kept
    }

    /// The mounts that the caller has cloned.
    fn trees(&self) -> impl Iterator<Item = Handle> + use<> {
        let count = self.files.map_or(0, |files| files.trees.len());
        (0..count as u32).map(Handle::Tree)
    }

    fn keep_descriptors(&mut self, target: bool) {
        let kept = self.kept(target);
        match self.command {
            Some(command) => execute::descriptors(self.sequence(), command, &kept),
            None => execute::no_descriptors(self.sequence(), &kept),
        }
    }

    /// Enters existing namespaces. The child executes the helper first, so that it no longer shares the caller's memory
    /// when a process inside can trace it.
    pub(super) fn enter(&mut self, target: &Target) {
        let also = self.signals_to_reset();
        self.sequence().reset_signals(also);
        self.keep_descriptors(true);
        let program = self.next_program();
        execute::exec_helper(self.sequence(), program, Handle::Report);
        self.stage(role::WALK);
        // If setgroups(2) is denied, the groups cannot be dropped. They are those of the namespace's creator, and give
        // no privilege.
        let root = self.host.uid == 0 && !self.host.setgroups_denied;
        let flags = clone_flags(self.new);
        let trees: Vec<Handle> = self.trees().collect();
        let sequence = self.sequence();
        for tree in trees {
            let args = [tree.into(), named!(F_SETFD), named!(FD_CLOEXEC)];
            sequence.call(Step::Descriptors, number::FCNTL, args);
        }
        if root && target.kinds().contains(Kind::User) {
            sequence
                .call(Step::Groups, number::SETGROUPS, [Arg::Int(0), Arg::Null])
                .note("no group of the caller goes inside");
        }
        let kinds = target.kinds().flags().bits() as u64;
        if kinds != 0 {
            let args = [Handle::Target.into(), Arg::clone_flags(kinds)];
            sequence.call(Step::Enter, number::SETNS, args);
        }
        sequence.call(Step::Target, number::CLOSE, [Handle::Target.into()]);
        // CLONE_PARENT: the command is a child of the caller, which can wait for it.
        let flags = flags | libc::CLONE_PARENT as u64 | libc::SIGCHLD as u64;
        sequence
            .call(Step::Fork, number::FORK, [Arg::clone_flags(flags)])
            .note("the joiner reports the pid and exits; its child continues");
    }

    /// The byte with which the container registers with the watchdog; `None` if it does not.
    pub(super) fn registration(&self) -> Option<u8> {
        let new_session = self.command.is_none_or(|command| command.new_session);
        // The kernel ends every process of a PID namespace with its PID 1.
        let searched = new_session && !self.new.contains(Kind::Pid);
        let bit = |kind: Kind| {
            let name = kind.file_name();
            let at = registration::NAMESPACES.iter().position(|&found| found == name);
            at.map_or(0, |index| 1 << index)
        };
        let kind = if searched {
            self.new.iter().fold(registration::SESSION, |kind, of| kind | bit(of))
        } else {
            registration::PROCESS
        };
        self.spec.die_with_parent.then_some(kind)
    }

    /// The calls that set up the namespaces, from the registration with the watchdog to the last mount.
    pub(super) fn set_up_namespaces(
        &mut self,
        awaits_maps: bool,
        ids: Option<Ids>,
        target: Option<&Target>,
    ) {
        let entered = target.is_some();
        let entered_net = target.is_some_and(|target| target.kinds().contains(Kind::Net));
        let (spec, host, new, command) = (self.spec, self.host, self.new, self.command);
        let (shares_memory, ping_group_range) = (self.shares_memory(), self.ping_group_range);
        let new_session = command.is_none_or(|command| command.new_session);
        let registration = self.registration();
        let inherits_control = self.has_init() && !entered && !self.forks;
        let sequence = self.sequence();
        if let Some(kind) = registration {
            if inherits_control {
                // The caller may be near its limit.
                sequence
                    .call(Step::Watchdog, number::CLOSE, [Handle::CallerControl.into()])
                    .note("makes room for the pidfd");
            }
            sequence.register_with_watchdog(kind);
            if entered {
                sequence.call(Step::Watchdog, number::CLOSE, [Handle::Watchdog.into()]);
            }
        }
        if new_session {
            let note = "kill 0 inside reaches no process outside";
            sequence.call(Step::Session, number::SETSID, []).note(note);
        }
        inside::set_up_without_ids(sequence, spec, new);
        if awaits_maps {
            sequence.expect_id_maps();
        }
        let changed = ids.filter(|ids| ids.change);
        if let Some(ids) = changed {
            sequence.await_id_maps();
            become_mapped(sequence, ids, host, shares_memory);
        }
        let other_net = new.contains(Kind::Net) || entered_net;
        let setup =
            NamespaceSetup { spec, new, other_net, ping_group_range, host, files: self.files };
        self.kernel_fs = inside::set_up(self.sequence(), &setup);
        self.sequence().await_id_maps();
    }

    /// The calls for the command, in this stage or in the next one.
    pub(super) fn finish(&mut self, target: Option<&Target>) -> Result<(), SpecError> {
        let host = self.host;
        let entered = target.map_or(NamespaceOptions::none(), Target::kinds);
        let apart = self.new.iter().chain(entered.iter()).collect();
        let confined = Confined::new(self.spec, host, self.files, apart)?;
        let walks_alone = target.is_none() && self.must_not_share_memory();
        if target.is_none() {
            if self.has_init() || walks_alone {
                self.keep_descriptors(false);
            } else if let Some(command) = self.command {
                execute::descriptors(self.sequence(), command, &[]);
            }
        }
        let mut start = execute::Start { session: false, fresh_root: self.fresh_root(target) };
        if self.has_init() {
            let program = self.next_program();
            let on_control = self.reports_on_control(target.is_some());
            let report = if on_control { Handle::Control } else { Handle::Report };
            execute::exec_helper(self.sequence(), program, report);
            self.stage(if self.command.is_some() { role::INIT } else { role::IDLE });
            start.session = true;
        } else if walks_alone {
            let program = self.next_program();
            execute::exec_helper(self.sequence(), program, Handle::Report);
            self.stage(role::WALK);
        }
        let Some(command) = self.command else { return Ok(()) };
        let shares_memory = self.shares_memory();
        let (has_init, on_control) = (self.has_init(), self.reports_on_control(target.is_some()));
        let spec = self.spec;
        let watched = spec.die_with_parent;
        let sequence = self.sequence();
        if !shares_memory {
            if has_init && !on_control {
                sequence.call(Step::Descriptors, number::CLOSE, [Handle::Control.into()]);
                if target.is_some() {
                    sequence.call(Step::Descriptors, number::CLOSE, [Handle::Helper.into()]);
                }
            }
            if has_init && watched {
                sequence.call(Step::Descriptors, number::CLOSE, [Handle::Caller.into()]);
            }
            let report = if on_control { Handle::Control } else { Handle::Report };
            let args = [report.into(), named!(F_SETFD), named!(FD_CLOEXEC)];
            sequence.call(Step::Descriptors, number::FCNTL, args);
        }
        execute::execute(sequence, spec, &confined, command, host, shares_memory, start)
    }

    /// Whether the path of the caller's directory may lead elsewhere inside: the root differs, or a mount covers it.
    pub(super) fn fresh_root(&self, target: Option<&Target>) -> bool {
        let entered = target.is_some_and(|target| target.kinds().contains(Kind::Mount));
        let covered = self.host.working_directory.as_ref().is_some_and(|path| {
            let path = path.to_bytes();
            let below = |mount: &[u8]| path.starts_with(mount);
            self.new.contains(Kind::Mount) && (below(b"/proc") || below(b"/sys") || below(b"/dev"))
        });
        let masked = self.new.contains(Kind::Mount)
            && self.spec.confine.profile.confinement().covers_files();
        entered || covered || masked || self.files.is_some()
    }
}

impl Sequence {
    pub(super) fn reset_signals(&mut self, also: u64) {
        let note = "handlers must not run in the caller's memory";
        let set = Arg::signals(also);
        self.call(Step::Signals, number::RESET_SIGNALS, [set]).note(note);
    }

    /// Sends a descriptor of this process to the watchdog.
    fn register_with_watchdog(&mut self, kind: u8) {
        let pid = self.cell();
        let shown = match kind {
            registration::PROCESS => "{<pidfd>, process}",
            registration::SESSION => "{<pidfd>, session}",
            _ => "{<pidfd>, session and namespaces}",
        };
        let (message, pidfd) = self.message_with_descriptor(&[kind], shown);
        self.call(Step::Watchdog, number::GETPID, []).into(pid);
        self.call(Step::Watchdog, number::PIDFD_OPEN, [pid.into(), Arg::Int(0)]).into(pidfd);
        let args = [Handle::Watchdog.into(), message, named!(MSG_NOSIGNAL)];
        self.call(Step::Watchdog, number::SENDMSG, args)
            .note("the container ends with the calling process");
        self.call(Step::Watchdog, number::CLOSE, [pidfd.into()]);
    }
}

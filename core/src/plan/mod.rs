//! From a specification to the ordered list of system calls that makes the container.
//!
//! A plan validates once, and allocates and formats everything: argv, envp, id maps, mount
//! arguments. It is a pure function of [`Spec`], [`Payload`] and [`Host`], and the very object that
//! [`launch`](crate::launch::launch) executes and [`Plan::lines`] prints.

pub(crate) mod call;
pub(crate) mod command;
mod confine;
mod files;
mod fork;
pub(crate) mod isolation;
pub(crate) mod maps;
pub(crate) mod number;
mod seclude;
pub(crate) mod text;

pub use text::{Actor, Line};

use call::{Arg, Handle, Sequence};
use confine::Confined;
use isolation::{Inside, named};
use maps::Maps;
use seclude::Kernels;

use crate::error::{SpawnError, SpecError};
use crate::host::Host;
use crate::host::files::{Files, OuterDirectory};
use crate::host::ids::Ids;
use crate::host::target::Target;
use crate::program::{self, registration, role};
use crate::spec::namespaces::{Kind, NamespaceOptions};
use crate::spec::{Command, IdMap, Network, Payload, Spec};
use crate::step::Step;

/// The calls that one process makes until the next program takes over.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    /// What the helper does with it; 0 for the first stage, which needs no helper.
    pub(crate) role: u32,
    pub(crate) sequence: Sequence,
}

/// The ordered list of system calls that starts a container.
#[derive(Clone, Debug)]
pub struct Plan {
    /// clone(2) flags for the new namespaces.
    pub(crate) clone_flags: u64,
    /// What the parent writes while the child waits.
    pub(crate) maps: Option<Maps>,
    /// The first is walked by the cloned child, the others by the helper that it executes.
    pub(crate) stages: Vec<Stage>,
    /// Whether the container registers with the watchdog.
    pub(crate) watched: bool,
    /// Whether PID 1 is the tiny init, which tells how the command ended.
    pub(crate) init: bool,
    /// Whether an existing process's namespaces are entered.
    pub(crate) enters: bool,
    /// Whether the child changes its ids while it shares the caller's memory, which makes that
    /// non-dumpable. The child undoes it, but may fail or be killed before.
    pub(crate) endangers_dumpable: bool,
    /// Whether failures come on init's control socket: one pipe less.
    pub(crate) reports_on_control: bool,
    /// What the caller makes before anything else, and takes back when the launch fails.
    pub(crate) directories: Vec<OuterDirectory>,
    /// Whether the command is a copy of the caller.
    pub(crate) forks: bool,
    new: NamespaceOptions,
    leads_session: bool,
}

impl Plan {
    /// Validates `spec` and `payload`, and works out every call. With `target`, namespaces of that
    /// process are entered before the new ones are made.
    ///
    /// # Errors
    ///
    /// [`SpecError`] for whatever is wrong on any machine: it names the option, its value, and a remedy.
    pub fn new(
        spec: &Spec,
        payload: Payload<'_>,
        host: &Host,
        target: Option<&Target>,
    ) -> Result<Self, SpecError> {
        isolation::check(spec)?;
        let new = new_namespaces(spec)?;
        command::check(new, spec.confine.profile, payload)?;
        // What enters a container finds its mounts made.
        if target.is_none() || matches!(spec.network, Some(Network::Join(_))) {
            seclude::check(spec.confine.profile, new)?;
        }
        let command = match payload {
            Payload::Command(command) | Payload::Fork(command) => Some(command),
            Payload::Hold => None,
        };
        let entered = match spec.network {
            Some(Network::Join(_)) => spec.namespaces.without_user(),
            _ => spec.namespaces,
        };
        let made = maps::maps_of(spec, entered, command, host)?;
        let ids = match (&made, target) {
            (Some((_, ids)), _) => Some(*ids),
            (None, Some(target)) => target.ids(host, command),
            (None, None) => None,
        };
        if target.is_some_and(|target| target.kinds().contains(Kind::Mount)) && host.files.is_some()
        {
            return Err(SpecError::new(
                "mounts",
                "…",
                "a command that enters a container gets that container's files",
                "Give rootfs, mounts, tmpfs, read_only and overlay to the container",
            ));
        }
        let files = match &host.files {
            Some(files) => Some(files.as_ref().as_ref().map_err(Clone::clone)?),
            None => None,
        };
        let forks = matches!(payload, Payload::Fork(_));
        if forks && target.is_some() {
            return Err(fork::cannot_enter());
        }
        let pingers = pingers(spec, host, command, ids);
        let mut builder = Builder {
            spec,
            host,
            command,
            forks,
            new,
            files,
            kernels: Kernels::Paths,
            pingers,
            stages: Vec::new(),
        };
        builder.stage(0);
        if let Some(target) = target {
            builder.enter(target);
        } else if !forks {
            let also = builder.signals_to_reset();
            builder.sequence().reset_signals(also);
        }
        builder.settle(made.is_some() && target.is_none(), ids, target);
        if forks {
            builder.fork()?;
        } else {
            builder.finish(target)?;
        }
        let reports_on_control = builder.reports_on_control(target.is_some());
        let stages = builder.stages;
        let changes_ids = |call: &call::Call| {
            [number::SETRESUID.number, number::SETRESGID.number].contains(&call.number.number)
        };
        let endangers_dumpable = host.dumpable && stages[0].sequence.calls.iter().any(changes_ids);
        let clone_flags = if target.is_some() { 0 } else { builder_flags(new) };
        Ok(Self {
            clone_flags,
            maps: made.map(|(maps, _)| maps),
            stages,
            watched: spec.die_with_parent,
            init: spec.init || command.is_none() || forks,
            enters: target.is_some(),
            endangers_dumpable,
            reports_on_control,
            directories: files.map_or_else(Vec::new, |files| files.directories.clone()),
            forks,
            new,
            leads_session: command.is_none_or(|command| command.new_session),
        })
    }

    /// Which namespaces are new.
    #[must_use]
    pub const fn namespaces(&self) -> NamespaceOptions {
        self.new
    }

    /// Whether the container's first process leads a session, and so a process group, of its own.
    #[must_use]
    pub const fn leads_session(&self) -> bool {
        self.leads_session
    }

    /// How many calls can fail, for tests that make each of them fail: those of the first stage,
    /// then those of the next.
    #[must_use]
    pub fn call_count(&self) -> usize {
        self.stages.iter().map(|stage| stage.sequence.calls.len()).sum()
    }

    /// The stage and the index of the call with this number, of those that [`Plan::call_count`] counts.
    pub(crate) fn call_with_number(&self, number: u32) -> Option<(usize, u32)> {
        let mut rest = number;
        for (index, stage) in self.stages.iter().enumerate() {
            let count = stage.sequence.calls.len() as u32;
            if rest < count {
                return Some((index, rest));
            }
            rest -= count;
        }
        None
    }

    /// What the failure of a call means to the caller.
    pub(crate) fn failure(&self, stage: usize, index: u32, errno: i32) -> SpawnError {
        let calls = self.stages.get(stage).map_or(&[][..], |stage| &stage.sequence.calls);
        if index == program::NOTHING_FAILED {
            // No call: init could not fork.
            return SpawnError::new(Step::Fork, errno);
        }
        // Past the last call: none of the candidates could be executed; the first says whom we wanted.
        let call = calls.get(index as usize).or_else(|| calls.last());
        let Some(call) = call else { return SpawnError::new(Step::Fork, errno) };
        let mut error = SpawnError::new(call.step, errno);
        let sequence = self.stages.get(stage).map(|stage| &stage.sequence);
        error.filename =
            sequence.and_then(|sequence| sequence.filename(call)).map(ToOwned::to_owned);
        error
    }

    /// The watchdog's launch: a child that executes the helper, which has no calls to make.
    pub(crate) fn watchdog() -> [Stage; 2] {
        let mut sequence = Sequence::default();
        sequence.reset_signals(0);
        let program = Handle::Program(0);
        command::no_descriptors(&mut sequence, &[program, Handle::Report, Handle::Control]);
        command::exec_helper(&mut sequence, program);
        [Stage { role: 0, sequence }, Stage { role: role::WATCHDOG, sequence: Sequence::default() }]
    }
}

/// The flags that clone(2) can carry.
fn builder_flags(new: NamespaceOptions) -> u64 {
    // The time namespace's flag shares a bit with the exit signal.
    new.without_time().flags().bits() as u64
}

/// Which namespaces are made, once `network` has been considered.
fn new_namespaces(spec: &Spec) -> Result<NamespaceOptions, SpecError> {
    let wrong = |value: &str, reason: &str, remedy: &str| {
        Err(SpecError::new("network", value, reason, remedy))
    };
    match spec.network {
        Some(Network::None) if !spec.namespaces.contains(Kind::Net) => wrong(
            "'none'",
            "the network namespace is shared with the caller",
            "Leave it out, or make the network namespace new: NamespaceOptions.with_net()",
        ),
        Some(Network::Host) => Ok(spec.namespaces.without_net()),
        Some(Network::Join(pid)) => {
            if spec.uid_map != IdMap::Caller || spec.gid_map != IdMap::Caller {
                return wrong(
                    &format!("<container {pid}>"),
                    "the user namespace that owns the network is joined with it, and has its maps already",
                    "Leave uid_map and gid_map out",
                );
            }
            Ok(spec.namespaces.without_net().without_user())
        }
        _ => Ok(spec.namespaces),
    }
}

/// The range of groups that ping is opened to: those that are mapped.
fn pingers(spec: &Spec, host: &Host, command: Option<&Command>, ids: Option<Ids>) -> (u32, u32) {
    /// The kernel's `GID_T_MAX`.
    const LAST: u32 = u32::MAX >> 1;
    let group = command.and_then(|command| command.group);
    let single = ids.map_or(0, |ids| group.unwrap_or(ids.gid));
    match &spec.gid_map {
        IdMap::Caller if host.uid == 0 => {
            let rows = host.gid_rows.first();
            rows.map_or((0, LAST), |row| (row.inside, (row.inside + (row.count - 1)).min(LAST)))
        }
        IdMap::Rows(rows) => rows
            .first()
            .map_or((single, single), |row| (row.inside, (row.inside + (row.count - 1)).min(LAST))),
        _ => (single, single),
    }
}

/// Puts the stages together.
struct Builder<'a> {
    spec: &'a Spec,
    host: &'a Host,
    command: Option<&'a Command>,
    forks: bool,
    new: NamespaceOptions,
    files: Option<&'a Files>,
    /// Where /proc is, once the inside is made.
    kernels: Kernels,
    /// The range of groups that ping is opened to.
    pingers: (u32, u32),
    stages: Vec<Stage>,
}

impl Builder<'_> {
    fn stage(&mut self, role: u32) {
        self.stages.push(Stage { role, sequence: Sequence::with_room() });
    }

    fn sequence(&mut self) -> &mut Sequence {
        &mut self.stages.last_mut().expect("there is a first stage").sequence
    }

    /// Whether PID 1 (or the process that holds the namespaces) is the helper.
    fn has_init(&self) -> bool {
        self.spec.init || self.command.is_none() || self.forks
    }

    /// Whether init itself waits for the exec and then introduces the command, on the socket that
    /// failures come on too. A joiner and an idle init have a pipe for them, which exec closes.
    fn reports_on_control(&self, target: bool) -> bool {
        self.spec.init && self.command.is_some() && !target && !self.forks
    }

    fn shares_memory(&self) -> bool {
        self.stages.len() == 1
    }

    /// Whether a process of the command's user could trace the child, and read the caller through it,
    /// between the change of ids and exec: nothing but their ids keeps them apart, since both are in
    /// the caller's user namespace. A new one does, because nobody in it is privileged over the child yet,
    /// and nobody outside but the caller's user is.
    fn must_not_share_memory(&self) -> bool {
        let user = self.command.and_then(|command| command.user);
        !self.new.contains(Kind::User) && user.is_some_and(|user| user != self.host.uid)
    }

    /// The number of the next program's descriptor among the launch's.
    fn next_program(&self) -> Handle {
        Handle::Program(self.stages.len() as u8 - 1)
    }

    /// Signals that become default even where the caller ignores them.
    fn signals_to_reset(&self) -> u64 {
        let bit = |signal: i32| 1_u64 << (signal - 1);
        let mut also = 0;
        if self.command.is_none_or(|command| command.restore_signals) {
            also |= bit(libc::SIGPIPE) | bit(libc::SIGXFSZ);
        }
        also
    }

    /// The descriptors that `next` and everything after it needs.
    fn kept(&self, target: bool) -> Vec<Handle> {
        let mut kept = vec![self.next_program()];
        if !self.reports_on_control(target) {
            kept.push(Handle::Report);
        }
        if target {
            kept.push(Handle::Target);
            if self.spec.die_with_parent {
                kept.push(Handle::Watchdog);
            }
        }
        if self.has_init() {
            kept.push(Handle::Control);
            if target {
                kept.push(Handle::Program(self.stages.len() as u8));
                kept.push(Handle::Helper);
            }
        }
        kept
    }

    fn keep_descriptors(&mut self, target: bool) {
        let kept = self.kept(target);
        match self.command {
            Some(command) => command::descriptors(self.sequence(), command, &kept),
            None => command::no_descriptors(self.sequence(), &kept),
        }
    }

    /// The way into existing namespaces: the helper is executed first, so that nothing of the
    /// caller's memory is there for a process inside to look at.
    fn enter(&mut self, target: &Target) {
        let also = self.signals_to_reset();
        self.sequence().reset_signals(also);
        self.keep_descriptors(true);
        let program = self.next_program();
        command::exec_helper(self.sequence(), program);
        self.stage(role::WALK);
        // Where they cannot be changed they are no privilege: those of whoever made the namespace.
        let root = self.host.uid == 0 && !self.host.setgroups_denied;
        let flags = builder_flags(self.new);
        let sequence = self.sequence();
        if root && target.kinds().contains(Kind::User) {
            sequence
                .call(Step::Groups, number::SETGROUPS, [Arg::Int(0), Arg::Null])
                .note("no group of root's goes inside");
        }
        let kinds = target.kinds().flags().bits() as u64;
        if kinds != 0 {
            let args = [Handle::Target.into(), Arg::clone_flags(kinds)];
            sequence.call(Step::Enter, number::SETNS, args);
        }
        sequence.call(Step::Target, number::CLOSE, [Handle::Target.into()]);
        // CLONE_PARENT: the command is a child of the caller's, which can wait for it.
        let flags = flags | libc::CLONE_PARENT as u64 | libc::SIGCHLD as u64;
        sequence
            .call(Step::Fork, number::FORK, [Arg::clone_flags(flags)])
            .note("the joiner reports the pid and ends; its child goes on");
    }

    /// From the first call in the new namespaces to the last that makes the container.
    fn settle(&mut self, awaits_maps: bool, ids: Option<Ids>, target: Option<&Target>) {
        let entered = target.is_some();
        let entered_net = target.is_some_and(|target| target.kinds().contains(Kind::Net));
        let (spec, host, new, command) = (self.spec, self.host, self.new, self.command);
        let (shares_memory, pingers) = (self.shares_memory(), self.pingers);
        let new_session = command.is_none_or(|command| command.new_session);
        let sequence = self.sequence();
        if spec.die_with_parent {
            let leads_session = new_session && !new.contains(Kind::Pid);
            sequence.register_with_watchdog(leads_session);
            if entered {
                sequence.call(Step::Watchdog, number::CLOSE, [Handle::Watchdog.into()]);
            }
        }
        if new_session {
            let note = "kill 0 inside reaches nobody outside";
            sequence.call(Step::Session, number::SETSID, []).note(note);
        }
        isolation::isolate_without_ids(sequence, spec, new);
        if awaits_maps {
            sequence.expect_id_maps();
        }
        let changed = ids.filter(|ids| ids.change);
        if let Some(ids) = changed {
            sequence.await_id_maps();
            let (uid, gid) = (ids.uid, ids.gid);
            sequence.call(Step::Root, number::SETRESGID, [gid.into(), gid.into(), gid.into()]);
            sequence.call(Step::Root, number::SETRESUID, [uid.into(), uid.into(), uid.into()]);
            command::restore_dumpable(sequence, host, shares_memory);
        }
        let other_net = new.contains(Kind::Net) || entered_net;
        let inside = Inside { spec, new, other_net, pingers, host, files: self.files };
        self.kernels = isolation::isolate(self.sequence(), &inside);
        self.sequence().await_id_maps();
    }

    /// The command itself, in this stage or in the one that init walks.
    fn finish(&mut self, target: Option<&Target>) -> Result<(), SpecError> {
        let host = self.host;
        let owns_users = self.new.contains(Kind::User)
            || target.is_some_and(|target| target.kinds().contains(Kind::User));
        let confined = Confined::new(self.spec, host, owns_users)?;
        let walks_alone = target.is_none() && self.must_not_share_memory();
        if target.is_none() {
            if self.has_init() || walks_alone {
                self.keep_descriptors(false);
            } else if let Some(command) = self.command {
                command::descriptors(self.sequence(), command, &[]);
            }
        }
        let mut start = command::Start { session: false, fresh_root: self.fresh_root(target) };
        if self.has_init() {
            let program = self.next_program();
            command::exec_helper(self.sequence(), program);
            self.stage(if self.command.is_some() { role::INIT } else { role::IDLE });
            start.session = true;
        } else if walks_alone {
            let program = self.next_program();
            command::exec_helper(self.sequence(), program);
            self.stage(role::WALK);
        }
        let Some(command) = self.command else { return Ok(()) };
        let shares_memory = self.shares_memory();
        let (has_init, on_control) = (self.has_init(), self.reports_on_control(target.is_some()));
        let sequence = self.sequence();
        if !shares_memory {
            if has_init && !on_control {
                sequence.call(Step::Descriptors, number::CLOSE, [Handle::Control.into()]);
                if target.is_some() {
                    sequence.call(Step::Descriptors, number::CLOSE, [Handle::Helper.into()]);
                }
            }
            let report = if on_control { Handle::Control } else { Handle::Report };
            let args = [report.into(), named!(F_SETFD), named!(FD_CLOEXEC)];
            sequence.call(Step::Descriptors, number::FCNTL, args);
        }
        command::execute(sequence, &confined, command, host, shares_memory, start)
    }

    /// Whether the caller's directory may be another one inside: another root was entered, or
    /// something is mounted over it.
    fn fresh_root(&self, target: Option<&Target>) -> bool {
        let entered = target.is_some_and(|target| target.kinds().contains(Kind::Mount));
        let covered = self.host.working_directory.as_ref().is_some_and(|path| {
            let path = path.to_bytes();
            let below = |mount: &[u8]| path.starts_with(mount);
            self.new.contains(Kind::Mount) && (below(b"/proc") || below(b"/sys") || below(b"/dev"))
        });
        let secluded = self.new.contains(Kind::Mount)
            && self.spec.confine.profile.confinement().covers_files();
        entered || covered || secluded || self.files.is_some()
    }
}

impl Sequence {
    fn reset_signals(&mut self, also: u64) {
        let note = "handlers must not run in the caller's memory";
        let set = Arg::signals(also);
        self.call(Step::Signals, number::RESET_SIGNALS, [set]).note(note);
    }

    /// Sends a descriptor of this process to the watchdog.
    fn register_with_watchdog(&mut self, leads_session: bool) {
        let pid = self.cell();
        let (kind, shown) = if leads_session {
            (registration::SESSION, "{<pidfd>, session}")
        } else {
            (registration::PROCESS, "{<pidfd>, process}")
        };
        let (message, pidfd) = self.message_with_descriptor(&[kind], shown);
        self.call(Step::Watchdog, number::GETPID, []).into(pid);
        self.call(Step::Watchdog, number::PIDFD_OPEN, [pid.into(), Arg::Int(0)]).into(pidfd);
        let args = [Handle::Watchdog.into(), message, named!(MSG_NOSIGNAL)];
        self.call(Step::Watchdog, number::SENDMSG, args).note("ends with the calling process");
        self.call(Step::Watchdog, number::CLOSE, [pidfd.into()]);
    }
}

#[cfg(test)]
mod tests;

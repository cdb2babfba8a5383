//! From a specification to the ordered list of system calls that makes the container.
//!
//! Making a plan validates the specification, and allocates and formats everything that the calls need: argv,
//! envp, id maps, mount arguments. A plan is a pure function of [`Spec`], [`Payload`] and [`Host`].
//! [`launch`](crate::launch::launch) executes the same object that [`Plan::lines`] prints.
//!
//! Each concern is a module: in their order `namespaces`, `ids`, `names`, `network`, `root`, `mounts`, `masked`,
//! `limits`, `confine`, and `execute` or `copy`. `inside` calls those that set up new namespaces. `stages` decides
//! which process makes which calls. Below them is the machinery: a `call` has arguments, a `sequence` has calls
//! and their data, several concerns share `mount_calls` and `file_calls`, and `text` and `lines` show the calls.

// The concerns.
mod confine;
mod copy;
pub(crate) mod execute;
pub(crate) mod ids;
mod limits;
mod masked;
mod mounts;
mod names;
mod namespaces;
mod network;
mod root;

// The parts that the concerns share, and their callers.
mod inside;
mod kernel_filesystems;
mod layer;
mod overlay_tree;
mod setup;
mod stages;
mod unseen;

// The machinery.
pub(crate) mod call;
mod file_calls;
mod lines;
pub(crate) mod mount_calls;
pub(crate) mod number;
pub(crate) mod sequence;
pub(crate) mod text;

use minidocker_init::program::role;

use std::os::fd::RawFd;

pub use crate::host::files::channels::mount_notices;
pub use lines::{Actor, Line};
pub(crate) use stages::Stage;
pub use unseen::{entering_notices, explain_missing, variable_notices};

use call::{Call, Handle};
use ids::IdMaps;
use kernel_filesystems::KernelFilesystems;
use network::ping_group_range;
use sequence::Sequence;
use stages::StageBuilder;
use unseen::Outlook;

use crate::error::{Notice, PlanError, SpawnError, SpecError};
use crate::host::Host;
use crate::host::files::{CallersTree, OuterLayer, changes_of_files};
use crate::host::made_of::with_files_of;
use crate::host::target::Target;
use crate::spec::namespaces::{Kind, NamespaceOptions};
use crate::spec::{CommandSpec, Network, Payload, Spec};
use crate::step::Step;

/// The descriptors of a command, and the ids inside that should be able to open them by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct CommandDescriptors {
    /// The standard streams come first.
    pub(crate) numbers: Vec<RawFd>,
    pub(crate) user: u32,
    pub(crate) group: u32,
    /// Whether the first is the command's controlling terminal.
    pub(crate) terminal: bool,
}

impl CommandDescriptors {
    fn of(command: &CommandSpec) -> Self {
        let streams = (0..).zip(command.stdio).map(|(own, given)| given.unwrap_or(own));
        Self {
            numbers: streams.chain(command.pass_fds.iter().copied()).collect(),
            user: command.user.unwrap_or(0),
            group: command.group.unwrap_or(0),
            terminal: command.terminal,
        }
    }
}

/// The ordered list of system calls that starts a container.
#[derive(Clone, Debug)]
pub struct Plan {
    /// clone(2) flags for the new namespaces.
    pub(crate) clone_flags: u64,
    /// The id maps that the parent writes while the child waits.
    pub(crate) maps: Option<IdMaps>,
    /// The cloned child walks the first stage, and the helper that it executes the others.
    pub(crate) stages: Vec<Stage>,
    /// The byte with which the container registers with the watchdog: see
    /// [`registration`](minidocker_init::program::registration). `None`: it does not register.
    pub(crate) watched: Option<u8>,
    /// Whether the first process is init, which reports how the command ended.
    pub(crate) init: bool,
    /// Whether the command enters namespaces of an existing process.
    pub(crate) enters: bool,
    /// Whether the child changes its ids while it shares the caller's memory, which makes that memory non-dumpable. The
    /// child undoes that, but may fail or be killed before.
    pub(crate) endangers_dumpable: bool,
    /// Whether failures are reported on init's control socket, which saves a pipe.
    pub(crate) reports_on_control: bool,
    /// Directories that the launch locks and opens before anything else.
    pub(crate) layers: Vec<OuterLayer>,
    /// The mounts that the caller clones.
    pub(crate) trees: Vec<CallersTree>,
    pub(crate) descriptors: CommandDescriptors,
    /// Whether the command is a copy of the caller.
    pub(crate) forks: bool,
    /// The view of a container whose profile lists what it shows.
    outlook: Option<Outlook>,
    new: NamespaceOptions,
    leads_session: bool,
}

impl Plan {
    /// Looks at the host and works out the plan: [`Target::of`], [`Host::gather`] and [`Plan::new`].
    ///
    /// # Errors
    ///
    /// The errors of these three functions.
    pub fn gather(
        spec: &Spec,
        payload: Payload<'_>,
        enter: Option<i32>,
    ) -> Result<(Self, Option<Target>), PlanError> {
        let completed = with_files_of(spec, payload);
        let spec = completed.as_ref().unwrap_or(spec);
        let target = Target::of(spec, enter)?;
        let host = Host::gather(spec)?.with(payload).entering(target.as_ref());
        Ok((Self::new(spec, payload, &host, target.as_ref())?, target))
    }

    /// Validates `spec` and `payload`, and computes every call. With `target`, the container enters namespaces of that
    /// process before it gets new ones.
    ///
    /// # Errors
    ///
    /// [`SpecError`] for a specification that is wrong on any machine, with the option, its value, and a remedy.
    pub fn new(
        spec: &Spec,
        payload: Payload<'_>,
        host: &Host,
        target: Option<&Target>,
    ) -> Result<Self, SpecError> {
        names::check(spec)?;
        namespaces::check(spec)?;
        let new = namespaces::new_namespaces(spec)?;
        execute::check(new, spec.confine.profile, payload)?;
        // A container to enter has its mounts already.
        if target.is_none() || matches!(spec.network, Some(Network::Join(_))) {
            masked::check(spec.confine.profile, new)?;
        }
        let command = match payload {
            Payload::Command(command) | Payload::Fork(command) => Some(command),
            Payload::Hold => None,
        };
        let entered = match spec.network {
            Some(Network::Join(_)) => spec.namespaces.without_user(),
            _ => spec.namespaces,
        };
        let maps = ids::maps_of(spec, entered, command, host)?;
        let ids = match (&maps, target) {
            (Some((_, ids)), _) => Some(*ids),
            (None, Some(target)) => target.ids(host, command),
            (None, None) => None,
        };
        if target.is_some_and(|target| target.kinds().contains(Kind::Mount))
            && let Some((option, value)) = changes_of_files(spec)
        {
            return Err(SpecError::new(
                option,
                value,
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
            return Err(copy::cannot_enter());
        }
        let listed = files.and_then(|files| files.listed.as_ref()).filter(|_| target.is_none());
        let outlook = listed.map(|listed| Outlook::new(listed, command, host));
        let ping_group_range = ping_group_range(spec, host, command, ids);
        let mut builder = StageBuilder {
            spec,
            host,
            command,
            forks,
            new,
            files,
            kernel_fs: KernelFilesystems::Paths,
            ping_group_range,
            stages: Vec::new(),
        };
        builder.stage(0);
        if let Some(target) = target {
            builder.enter(target);
        } else if !forks {
            let also = builder.signals_to_reset();
            builder.sequence().reset_signals(also);
        }
        builder.set_up_namespaces(maps.is_some() && target.is_none(), ids, target);
        if forks {
            builder.fork()?;
        } else {
            builder.finish(target)?;
        }
        let reports_on_control = builder.reports_on_control(target.is_some());
        let watched = builder.registration();
        let stages = builder.stages;
        let changes_ids = |call: &Call| {
            [number::SETRESUID.number, number::SETRESGID.number].contains(&call.number.number)
        };
        let endangers_dumpable = host.dumpable && stages[0].sequence.calls.iter().any(changes_ids);
        let clone_flags = if target.is_some() { 0 } else { namespaces::clone_flags(new) };
        Ok(Self {
            clone_flags,
            maps: maps.map(|(maps, _)| maps),
            stages,
            watched,
            init: spec.init || command.is_none() || forks,
            enters: target.is_some(),
            endangers_dumpable,
            reports_on_control,
            layers: files.map_or_else(Vec::new, |files| files.layers.clone()),
            trees: files.map_or_else(Vec::new, |files| files.trees.clone()),
            descriptors: command.map_or_else(CommandDescriptors::default, CommandDescriptors::of),
            forks,
            outlook,
            new,
            leads_session: command.is_none_or(|command| command.new_session),
        })
    }

    /// Whether the launch sets up mounts that the caller has cloned, in the container's user namespace.
    pub(crate) fn maps_trees(&self) -> bool {
        self.trees.iter().any(|tree| tree.recursive)
    }

    /// The kinds of the new namespaces.
    #[must_use]
    pub const fn namespaces(&self) -> NamespaceOptions {
        self.new
    }

    /// Whether the container's first process leads its own session, and so its own process group.
    #[must_use]
    pub const fn leads_session(&self) -> bool {
        self.leads_session
    }

    /// Returns a warning for the script and for each variable of a command that names a path which exists outside and
    /// is missing inside.
    #[must_use]
    pub fn notices(&self, spec: &Spec, command: &CommandSpec) -> Vec<Notice> {
        self.outlook.as_ref().map_or_else(Vec::new, |outlook| outlook.notices(spec, command))
    }

    /// The number of calls in all stages. Tests make each of them fail, by its number: those of the first stage come
    /// first.
    #[must_use]
    pub fn call_count(&self) -> usize {
        self.stages.iter().map(|stage| stage.sequence.calls.len()).sum()
    }

    /// The stage of the call with this number (see [`Plan::call_count`]), and its index there.
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

    /// The error for a call that failed.
    pub(crate) fn failure(&self, stage: usize, index: u32, errno: i32) -> SpawnError {
        let calls = self.stages.get(stage).map_or(&[][..], |stage| &stage.sequence.calls);
        // An index past the last call means that no candidate could be executed. The last call names one of them.
        let call = calls.get(index as usize).or_else(|| calls.last());
        let Some(call) = call else { return SpawnError::new(Step::Fork, errno) };
        let sequence = &self.stages[stage].sequence;
        let mut error = SpawnError::new(call.step, errno);
        error.filename = sequence.filename(call).map(ToOwned::to_owned);
        if call.number == number::EXECVE {
            execute::explain_failure(sequence, call, &mut error);
        }
        if let Some(outlook) = &self.outlook {
            outlook.explain_failure(sequence, call, &mut error);
        }
        // These errors do not depend on the arguments, so the remedy needs the name of the call.
        if errno == libc::ENOSYS || (call.step == Step::Watchdog && errno == libc::EPERM) {
            error = error.of_call(call.number.name);
        }
        error
    }

    /// The stages of the watchdog: a child that executes the helper, and the helper, which makes no call of a plan.
    pub(crate) fn watchdog() -> [Stage; 2] {
        let mut sequence = Sequence::default();
        sequence.reset_signals(0);
        let program = Handle::Program(0);
        execute::no_descriptors(&mut sequence, &[program, Handle::Control, Handle::Caller]);
        execute::exec_helper(&mut sequence, program, Handle::Control);
        [Stage { role: 0, sequence }, Stage { role: role::WATCHDOG, sequence: Sequence::default() }]
    }
}

#[cfg(test)]
mod tests;

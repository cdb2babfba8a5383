//! The calls that confine a command: capabilities, Landlock, the system call filter, and limits.
//!
//! Their needs decide their order. Raising a limit needs `CAP_SYS_RESOURCE`, and a lowered one may be too low for the
//! calls that follow. Dropping from the bounding set needs `CAP_SETPCAP`. A filter and a Landlock
//! domain need `no_new_privileges` or `CAP_SYS_ADMIN`. With `no_new_privileges` they come after the change of
//! user. Without it they come before the capabilities are dropped, and the filter must allow the calls that
//! follow.

use std::ffi::{CStr, CString};
use std::sync::Arc;

use minidocker_init::program::pseudo;

use super::call::{Arg, at_cwd, named};
use super::sequence::Sequence;
use super::{limits, number};
use crate::error::{Remedy, Setting, SpecError};
use crate::host::Host;
use crate::host::files::{Files, ResolvedMount, Root};
use crate::spec::capabilities::{self, Capability, CapabilitySet};
use crate::spec::confine::Confine;
use crate::spec::landlock::{Abi, AccessFs, Handled, PARENT_FD_OFFSET, RULE_PATH_BENEATH};
use crate::spec::landlock::{PathRule, Scope, path_beneath, restrict_flags};
use crate::spec::namespaces::{Kind, NamespaceOptions};
use crate::spec::profile::LandlockDomain;
use crate::spec::seccomp::{self, Action, Arch, Filter, OnDenied, Platform, SeccompProfile};
use crate::spec::ulimits::Ulimit;
use crate::spec::{MountKind, Overlay, Spec};
use crate::step::Step;

/// The confinement of one command on this host.
#[derive(Debug, Default)]
pub(super) struct Confined {
    pub(super) no_new_privileges: bool,
    /// Limits above the caller's, which take the privileges of the start.
    raised: Vec<Ulimit>,
    /// The other limits, which may be too low for the calls of the launch.
    lowered: Vec<Ulimit>,
    /// The capabilities that the kernel knows.
    every: CapabilitySet,
    /// Capabilities that leave the bounding set.
    dropped: CapabilitySet,
    /// Capabilities that the command may have; `None` leaves the sets as they are.
    kept: Option<CapabilitySet>,
    landlock: Option<(Abi, &'static LandlockDomain)>,
    /// Whether the command is in the caller's PID namespace.
    shares_pids: bool,
    /// Writable paths besides those of the domain's rules: mounts of the specification.
    writable: Vec<CString>,
    filter: Option<Installed>,
}

#[derive(Debug)]
struct Installed {
    filter: Arc<Filter>,
    profile: Arc<SeccompProfile>,
    target: Platform,
    on_denied: OnDenied,
}

impl Confined {
    /// Computes the confinement that `spec` asks for on this host. `apart`: the namespaces of the command, new or entered,
    /// that are not the caller's. In another user namespace it starts with every capability.
    pub(super) fn new(
        spec: &Spec,
        host: &Host,
        files: Option<&Files>,
        apart: NamespaceOptions,
    ) -> Result<Self, SpecError> {
        let confine = &spec.confine;
        let no_new_privileges = confine.no_new_privileges();
        if confine.is_bare() {
            return Ok(Self { no_new_privileges, ..Self::default() });
        }
        let kernel = host.kernel;
        let owns_users = apart.contains(Kind::User);
        let shares_pids = !apart.contains(Kind::Pid);
        let every = CapabilitySet::up_to(kernel.last_capability);
        let held = if owns_users { every } else { host.permitted.intersection(every) };
        let kept = kept(confine, held, kernel.last_capability)?;
        let profile = confine.profile.confinement();
        let (raised, lowered) = limits::ulimits(confine, host)
            .into_iter()
            .partition(|limit| limits::raises(limit, host));
        let mut confined = Self {
            no_new_privileges,
            raised,
            lowered,
            every,
            landlock: profile.landlock.and_then(|domain| Some((host.landlock?, domain))),
            shares_pids,
            writable: writable(spec, files),
            ..Self::default()
        };
        if !(kept == every && owns_users) && confine.changes_capabilities() {
            confined.kept = Some(kept);
            confined.dropped = every.without(kept);
            if !confined.dropped.is_empty() && !held.contains(Capability::SETPCAP) {
                if !no_new_privileges {
                    return Err(needs_no_new_privileges(
                        "without CAP_SETPCAP the bounding set stays as it is, and a set-user-ID program \
                         would get the dropped capabilities back",
                    ));
                }
                // With no_new_privileges an exec gains nothing from the bounding set.
                confined.dropped = CapabilitySet::EMPTY;
            }
        }
        if let Some((profile, on_denied)) = confine.filter() {
            let Some(arch) = Arch::NATIVE else {
                return Err(SpecError::new(
                    "seccomp",
                    "…",
                    "no filter can be compiled for this architecture",
                    Remedy::with("{}", Setting::NoFilter),
                ));
            };
            let target = Platform { arch, kernel: kernel.version, capabilities: kept, shares_pids };
            let filter = seccomp::compiled(&profile, &target, on_denied)?;
            confined.filter = Some(Installed { filter, profile, target, on_denied });
        }
        let needs_admin = confined.filter.is_some() || confined.landlock.is_some();
        if needs_admin && !no_new_privileges && !held.contains(Capability::SYS_ADMIN) {
            return Err(needs_no_new_privileges(
                "without CAP_SYS_ADMIN only a process that gains no privileges may have a filter",
            ));
        }
        Ok(confined)
    }

    /// The calls before the command becomes its user.
    pub(super) fn before_user(&self, sequence: &mut Sequence) {
        limits::set_limits(sequence, &self.raised);
        if !self.dropped.is_empty() {
            let set = Arg::NamedAs(self.dropped.bits(), self.show(self.dropped).into());
            sequence
                .call(Step::Capabilities, number::DROP_BOUNDING, [named!(PR_CAPBSET_DROP), set])
                .note("one call for each: no executed program gets them");
        }
        if !self.no_new_privileges {
            self.restrict(sequence);
            limits::set_limits(sequence, &self.lowered);
            self.install(sequence);
        }
    }

    /// The calls after the command has become its user. `root`: whether that user is root, which keeps its capabilities
    /// at exec.
    pub(super) fn after_user(&self, sequence: &mut Sequence, root: bool) {
        if let Some(kept) = self.kept {
            set_capabilities(sequence, if root { kept } else { CapabilitySet::EMPTY }, self);
        }
        if self.no_new_privileges {
            let args = [named!(PR_SET_NO_NEW_PRIVS), 1.into(), 0.into(), 0.into(), 0.into()];
            sequence
                .call(Step::NoNewPrivileges, number::PRCTL, args)
                .note("set-user-ID programs gain no privileges");
            self.restrict(sequence);
        }
    }

    /// Lowers the limits and installs the filter, if they can come last.
    pub(super) fn last(&self, sequence: &mut Sequence) {
        if self.no_new_privileges {
            limits::set_limits(sequence, &self.lowered);
            self.install(sequence);
        }
    }

    /// Refuses a filter that denies one of the calls after it. `reports`: whether the process writes a failure to a
    /// pipe.
    pub(super) fn check(&self, sequence: &Sequence, reports: bool) -> Result<(), SpecError> {
        let Some(installed) = &self.filter else { return Ok(()) };
        let after = sequence.calls.iter().rev().take_while(|call| call.step != Step::Seccomp);
        for call in after.filter(|call| call.number.number < pseudo::RESET_SIGNALS) {
            installed.require_allowed(
                call.number.name,
                call.number.number,
                &values(sequence.args(call)),
            )?;
        }
        installed.require_allowed(
            "exit_group",
            libc::SYS_exit_group as u32,
            &[127, 0, 0, 0, 0, 0],
        )?;
        if reports {
            installed.require_allowed("write", libc::SYS_write as u32, &[0; 6])?;
        }
        Ok(())
    }

    /// Like [`check`](Self::check), for a copy of the caller. Without an exec it closes descriptors itself, and it
    /// reads from its socket to the caller.
    pub(super) fn check_copy(&self, sequence: &Sequence) -> Result<(), SpecError> {
        self.check(sequence, true)?;
        let Some(installed) = &self.filter else { return Ok(()) };
        installed.require_allowed("close", libc::SYS_close as u32, &[0; 6])?;
        installed.require_allowed("read", libc::SYS_read as u32, &[0; 6])
    }

    fn restrict(&self, sequence: &mut Sequence) {
        if let Some((abi, domain)) = self.landlock {
            let own = if self.shares_pids { &[] } else { domain.rules_of_own_pids };
            let rules = domain.rules.iter().chain(own);
            enter_domain(sequence, abi, (rules, domain.scope), &self.writable);
        }
    }

    fn install(&self, sequence: &mut Sequence) {
        let Some(Installed { filter, .. }) = &self.filter else { return };
        let shown = format!("{{len={}}}", filter.program.len());
        let program = sequence.filter(&filter.program, shown);
        let args = [named!(SECCOMP_SET_MODE_FILTER), show_flags(filter.flags), program];
        sequence
            .call(Step::Seccomp, number::SECCOMP, args)
            .note("it applies to every system call from here on");
    }

    /// A set by its names, or by the missing names if these are fewer.
    fn show(&self, set: CapabilitySet) -> String {
        let names = |set: CapabilitySet| {
            set.iter().map(|capability| capability.to_string()).collect::<Vec<_>>().join(" ")
        };
        let rest = self.every.without(set);
        if rest.is_empty() {
            "[all]".to_owned()
        } else if set.iter().count() > rest.iter().count() {
            format!("[all but {}]", names(rest))
        } else {
            format!("[{}]", names(set))
        }
    }
}

impl Installed {
    /// Refuses the filter if it denies the call.
    fn require_allowed(&self, name: &str, number: u32, args: &[u64; 6]) -> Result<(), SpecError> {
        let action = self.profile.action_for(&self.target, self.target.arch, number, args);
        if matches!(action, Action::Allow | Action::Log) {
            return Ok(());
        }
        let outcome = match self.on_denied {
            OnDenied::Kill => "it kills",
            OnDenied::Errno | OnDenied::Log => "it denies",
        };
        Err(SpecError::of_text(
            "seccomp",
            name,
            format!("{outcome} a call that comes after the filter, until the command is executed"),
            format!("Allow {name}"),
        ))
    }
}

/// The values of the arguments that are numbers; 0 for the others.
fn values(args: &[Arg]) -> [u64; 6] {
    let mut values = [0; 6];
    for (value, arg) in values.iter_mut().zip(args) {
        *value = match arg {
            Arg::Int(value) => *value as u64,
            Arg::Named(value, _) | Arg::NamedAs(value, _) | Arg::Shown(value, _) => *value,
            _ => 0,
        };
    }
    values
}

fn needs_no_new_privileges(reason: &'static str) -> SpecError {
    SpecError::new(
        "no_new_privileges",
        false,
        reason,
        Remedy::with("Set no_new_privileges, or {}", Kind::User.made_new()),
    )
}

/// The capabilities that the command keeps of those that it starts with.
fn kept(confine: &Confine, held: CapabilitySet, last: u8) -> Result<CapabilitySet, SpecError> {
    let base = confine.profile.confinement().capabilities;
    let wanted = capabilities::resolve(base, &confine.cap_add, &confine.cap_drop, last)?;
    let missing = confine.cap_add.iter().find(|name| {
        name.parse().is_ok_and(|capability: Capability| {
            wanted.contains(capability) && !held.contains(capability)
        })
    });
    match missing {
        Some(name) => Err(SpecError::of_text(
            "cap_add",
            name,
            "the caller does not have it, and no new user namespace gives it",
            Remedy::with("{}", Kind::User.made_new()),
        )),
        None => Ok(wanted.intersection(held)),
    }
}

/// capset(2): makes `set` the permitted and effective set, and the inheritable one empty. That clears the ambient one.
fn set_capabilities(sequence: &mut Sequence, set: CapabilitySet, confined: &Confined) {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3.to_ne_bytes(), 0_u32.to_ne_bytes()].concat();
    let header = sequence.structure(&header, "{_LINUX_CAPABILITY_VERSION_3, 0}");
    let (low, high) = (set.bits() as u32, (set.bits() >> 32) as u32);
    let data: Vec<u8> = [low, low, 0, high, high, 0].iter().flat_map(|n| n.to_ne_bytes()).collect();
    let shown = confined.show(set);
    let shown = format!("{{effective={shown}, permitted={shown}, inheritable=[]}}");
    let data = sequence.structure_as(&data, shown);
    sequence
        .call(Step::Capabilities, number::CAPSET, [header, data])
        .note("this clears the ambient set, too");
}

fn show_flags(flags: u32) -> Arg {
    const NAMES: [(u32, &str); 3] = [
        (libc::SECCOMP_FILTER_FLAG_TSYNC as u32, "SECCOMP_FILTER_FLAG_TSYNC"),
        (libc::SECCOMP_FILTER_FLAG_LOG as u32, "SECCOMP_FILTER_FLAG_LOG"),
        (libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as u32, "SECCOMP_FILTER_FLAG_SPEC_ALLOW"),
    ];
    let names = NAMES.iter().filter(|(flag, _)| flags & flag != 0);
    let names: Vec<&str> = names.map(|&(_, name)| name).collect();
    if names.is_empty() {
        Arg::Int(flags.into())
    } else {
        Arg::NamedAs(flags.into(), names.join("|").into())
    }
}

/// Enters a Landlock domain. It denies mounts, and every access beneath `/` that no rule allows.
fn enter_domain<'a>(
    sequence: &mut Sequence,
    abi: Abi,
    (rules, scope): (impl Iterator<Item = &'a PathRule>, Scope),
    writable: &[CString],
) {
    let handled = Handled { scope, ..Handled::files(abi) };
    let attr = handled.attr(abi);
    let size = attr.len();
    let shown = format!(
        "{{handled_access_fs={:#x}, scoped={:#x}}}",
        handled.fs.bits(),
        if abi.version() < 6 { 0 } else { handled.scope.bits() },
    );
    let attr = sequence.structure_as(&attr, shown);
    let ruleset = sequence.cell();
    let args = [attr, size.into(), Arg::Int(0)];
    sequence.call(Step::Landlock, number::LANDLOCK_CREATE_RULESET, args).into(ruleset);
    for PathRule { path, access } in rules {
        let path = CString::new(*path).unwrap_or_default();
        add_rule(sequence, abi, ruleset.into(), (&path, *access), true);
    }
    for path in writable {
        // The kernel refuses rights of a directory in a rule for a file, so each type has its own rule.
        for directory in [true, false] {
            add_rule(sequence, abi, ruleset.into(), (path, AccessFs::WRITE), directory);
        }
    }
    let flags = Arg::Int(restrict_flags(abi, false).into());
    sequence
        .call(Step::Landlock, number::LANDLOCK_RESTRICT_SELF, [ruleset.into(), flags])
        .note("access that no rule allows is denied");
}

fn add_rule(
    sequence: &mut Sequence,
    abi: Abi,
    ruleset: Arg,
    (path, access): (&CStr, AccessFs),
    directory: bool,
) {
    const STEP: Step = Step::Landlock;
    let bytes = path_beneath(access, abi, directory, -1);
    let of = if directory { "" } else { ", of a file" };
    let shown = format!("{{{}{of}, <fd>}}", show_access(access));
    let (attr, parent) = sequence.structure_with_descriptor(&bytes, PARENT_FD_OFFSET, shown);
    let text = sequence.text(path);
    let flags = if directory {
        named!(O_PATH | O_DIRECTORY | O_CLOEXEC)
    } else {
        named!(O_PATH | O_CLOEXEC)
    };
    let open = sequence.call(STEP, number::OPENAT, [at_cwd(), text, flags, Arg::Int(0)]);
    open.about(path).into(parent).unless_absent();
    let kind = Arg::Named(RULE_PATH_BENEATH, "LANDLOCK_RULE_PATH_BENEATH");
    sequence
        .call(STEP, number::LANDLOCK_ADD_RULE, [ruleset, kind, attr, Arg::Int(0)])
        .about(path)
        .unless_absent();
}

/// The writable paths: the root if it is an overlay, its own writable directories, and the writable mounts.
fn writable(spec: &Spec, files: Option<&Files>) -> Vec<CString> {
    let root = (spec.overlay != Overlay::None).then(|| c"/".to_owned());
    let mounts = files.map_or(&[][..], |files| &files.mounts[..]);
    let asked = mounts.iter().filter(|mount| match mount.kind {
        MountKind::Bind { .. } | MountKind::Tmpfs { .. } | MountKind::Overlay { .. } => {
            !mount.options.read_only
        }
        _ => false,
    });
    let absolute = |mount: &ResolvedMount| {
        let path = [b"/", mount.place.path.to_bytes()].concat();
        CString::new(path).expect("made of strings without a NUL")
    };
    let homes = match files.map(|files| &files.root) {
        Some(Root::Listed(root)) => root.writable(),
        _ => Vec::new(),
    };
    let domain = spec.confine.profile.confinement().landlock;
    let is_new = |path: &CString| {
        let rules = domain.map_or(&[][..], |domain| domain.rules);
        !rules.iter().any(|rule| rule.path.as_bytes() == path.to_bytes())
    };
    let homes = homes.into_iter().filter(is_new);
    root.into_iter().chain(homes).chain(asked.map(absolute)).collect()
}

fn show_access(access: AccessFs) -> String {
    let name = match access {
        AccessFs::READ => "read and execute",
        AccessFs::WRITE => "write",
        AccessFs::USE => "read and write existing files",
        _ => return format!("{:#x}", access.bits()),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests;

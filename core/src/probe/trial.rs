//! The system calls of each probe: those of a plan for some of its steps, and calls that are in no plan.

use std::path::PathBuf;

use minidocker_init::program::on_error;

use crate::host::Host;
use crate::plan::call::{Arg, at_cwd, named};
use crate::plan::mount_calls::mount;
use crate::plan::number::Number;
use crate::plan::sequence::{Appended, Sequence};
use crate::plan::{Plan, execute, ids, number, text};
use crate::probe::{Answer, Probe, ProbeOptions};
use crate::spec::capabilities::CapabilitySet;
use crate::spec::namespaces::{Kind, NamespaceOptions};
use crate::spec::{IdMap, Payload, Spec, TimeOffset};
use crate::step::Step;

/// The step of calls that are in no plan.
const STEP: Step = Step::Prepare;

macro_rules! numbers {
    ($($name:ident = $libc:ident),+ $(,)?) => {
        $(const $name: Number = Number {
            number: libc::$libc as u32,
            // "SYS_mount" without its prefix.
            name: stringify!($libc).split_at(4).1,
        };)+
    };
}

numbers! {
    CLONE = SYS_clone,
    LANDLOCK_CREATE_RULESET = SYS_landlock_create_ruleset,
    LANDLOCK_RESTRICT_SELF = SYS_landlock_restrict_self,
    MEMFD_CREATE = SYS_memfd_create,
    MKDIRAT = SYS_mkdirat,
    MOUNT_SETATTR = SYS_mount_setattr,
    OPENAT2 = SYS_openat2,
    PIDFD_SEND_SIGNAL = SYS_pidfd_send_signal,
    PIVOT_ROOT = SYS_pivot_root,
    PPOLL = SYS_ppoll,
    SECCOMP = SYS_seccomp,
}

/// A directory to mount over, which exists wherever a container can start.
const BASE: &std::ffi::CStr = c"/proc";

/// The clone of a probe's child, and the calls that the child makes.
pub(crate) struct Trial {
    pub(crate) flags: u64,
    pub(crate) maps: Option<ids::IdMaps>,
    pub(crate) sequence: Sequence,
}

impl Trial {
    /// Computes the calls of a probe.
    ///
    /// # Errors
    ///
    /// The answer, if it is known without running the probe: the caller has no subordinate ids.
    pub(crate) fn new(probe: Probe, options: &ProbeOptions) -> Result<Self, Answer> {
        let mut trial = Self::of_plan(probe, options.user_namespace)?;
        trial.add(probe, options);
        Ok(trial)
    }

    /// The calls that the probe has in common with a plan.
    fn of_plan(probe: Probe, user_namespace: bool) -> Result<Self, Answer> {
        let (kinds, steps) = namespaces_and_steps(probe);
        let mut namespaces: NamespaceOptions = kinds.iter().copied().collect();
        if namespaces == NamespaceOptions::none() {
            return Ok(Self { flags: 0, maps: None, sequence: Sequence::default() });
        }
        namespaces =
            if user_namespace { namespaces.with_user() } else { namespaces.without_user() };
        let map = if probe == Probe::SubordinateIds { IdMap::Auto } else { IdMap::Caller };
        let spec = Spec {
            namespaces,
            uid_map: map.clone(),
            gid_map: map,
            hostname: steps.contains(&Step::Hostname).then(|| b"doctor".to_vec()),
            monotonic_offset: kinds
                .contains(&Kind::Time)
                .then_some(TimeOffset { seconds: 1, nanoseconds: 0 }),
            die_with_parent: false,
            ..Spec::default()
        };
        let host = Host::gather(&spec).map_err(Answer::of_error)?;
        let mut plan = Plan::new(&spec, Payload::Hold, &host, None)
            .map_err(|error| Answer::Impossible { reason: error.reason.to_string() })?;
        let mut sequence = plan.stages.swap_remove(0).sequence;
        sequence.calls.retain(|call| call.step == Step::IdMaps || steps.contains(&call.step));
        for call in &mut sequence.calls {
            call.on_error = on_error::FAIL;
        }
        Ok(Self { flags: plan.clone_flags, maps: plan.maps, sequence })
    }

    /// The clone(2) call of the child, with its namespace flags only.
    pub(crate) fn clone_text(&self) -> String {
        format!("clone({})", text::clone_flag_names(self.flags))
    }

    /// The text of a call, and the file that it uses.
    pub(crate) fn call(&self, index: u32) -> Option<(String, Option<PathBuf>)> {
        let call = self.sequence.calls.get(index as usize)?;
        let filename = self.sequence.filename(call).map(PathBuf::from);
        Some((text::render(&self.sequence, call, false), filename))
    }

    fn add(&mut self, probe: Probe, options: &ProbeOptions) {
        let sequence = &mut self.sequence;
        match probe {
            Probe::Ping => ping_socket(sequence),
            Probe::Overlay => overlay(sequence),
            Probe::PivotRoot => new_root(sequence),
            Probe::ReadOnly => read_only(sequence),
            Probe::Devpts => {
                let (flags, data) = (named!(MS_NOSUID | MS_NOEXEC), Some(c"newinstance,mode=620"));
                mount(sequence, STEP, Some(c"devpts"), BASE, Some(c"devpts"), flags, data);
            }
            Probe::ResolveInRoot => resolve_in_root(sequence),
            Probe::Unshare => {
                sequence.call(STEP, number::UNSHARE, [named!(CLONE_NEWUSER)]);
            }
            Probe::Pidfd => signal_self(sequence, 0.into()),
            Probe::PidfdGroup => {
                sequence.call(STEP, number::SETSID, []);
                // linux/pidfd.h
                signal_self(sequence, Arg::Named(4, "PIDFD_SIGNAL_PROCESS_GROUP"));
            }
            Probe::CloseRange => {
                let args = [Arg::Int(3), Arg::Int(u32::MAX.into()), named!(CLOSE_RANGE_CLOEXEC)];
                sequence.call(STEP, number::CLOSE_RANGE, args);
            }
            Probe::MemfdExec => execute::exec_bare_helper(sequence),
            Probe::Seccomp => seccomp(sequence),
            Probe::Landlock => landlock(sequence),
            Probe::Directory => {
                let path = options.path.as_deref().unwrap_or_default();
                let name = sequence.text(path);
                let args = [at_cwd(), name.clone(), Arg::mode(0o755)];
                sequence.call(STEP, MKDIRAT, args).about(path);
                let args = [at_cwd(), name, named!(AT_REMOVEDIR)];
                sequence.call(STEP, number::UNLINKAT, args).about(path);
            }
            Probe::FilterClone => {
                let flags = (libc::CLONE_NEWUSER | libc::CLONE_FS | libc::SIGCHLD) as u64;
                let args = [Arg::clone_flags(flags), 0.into(), 0.into(), 0.into(), 0.into()];
                sequence.call(STEP, CLONE, args);
            }
            Probe::FilterUnshare => {
                sequence.call(STEP, number::UNSHARE, [named!(CLONE_NEWUSER | CLONE_PTRACE)]);
            }
            Probe::FilterMount => {
                // Source and target are in the first page, at which the kernel maps nothing.
                let args = [Arg::Int(1), Arg::Int(1), Arg::Null, 0.into(), Arg::Null];
                sequence.call(STEP, number::MOUNT, args);
            }
            Probe::FilterSetns => {
                sequence.call(STEP, number::SETNS, [(-1).into(), 0.into()]);
            }
            Probe::Forever => {
                let nothing = [Arg::Null, 0.into(), Arg::Null, Arg::Null, 0.into()];
                sequence.call(STEP, PPOLL, nothing);
            }
            Probe::FilterMemfd => {
                let name = sequence.text(c"");
                sequence.call(STEP, MEMFD_CREATE, [name, Arg::Int(u32::MAX.into())]);
            }
            Probe::Capabilities => {
                // No filter examines this call, so a refusal is about the capability.
                let newest = u32::from(CapabilitySet::NEWEST.bit());
                let args = [named!(PR_CAPBSET_DROP), newest.into()];
                sequence.call(STEP, number::PRCTL, args);
            }
            Probe::User
            | Probe::SubordinateIds
            | Probe::Hostname
            | Probe::Mount
            | Probe::Uts
            | Probe::Ipc
            | Probe::Pid
            | Probe::Net
            | Probe::Cgroup
            | Probe::Time
            | Probe::FreshProc
            | Probe::FreshSys
            | Probe::SharedMemory
            | Probe::Loopback => {}
        }
    }
}

/// The new namespaces of a probe, and the steps of a plan whose calls it makes.
const fn namespaces_and_steps(probe: Probe) -> (&'static [Kind], &'static [Step]) {
    match probe {
        Probe::User | Probe::SubordinateIds | Probe::Capabilities => (&[Kind::User], &[]),
        Probe::Hostname => (&[Kind::Uts], &[Step::Hostname]),
        Probe::Mount => (&[Kind::Mount], &[Step::PrivateMounts]),
        Probe::Uts => (&[Kind::Uts], &[]),
        Probe::Ipc => (&[Kind::Ipc], &[]),
        Probe::Pid => (&[Kind::Pid], &[]),
        Probe::Net => (&[Kind::Net], &[]),
        Probe::Cgroup => (&[Kind::Cgroup], &[]),
        Probe::Time => (&[Kind::Time], &[Step::Time]),
        Probe::FreshProc => (&[Kind::Pid, Kind::Mount], &[Step::PrivateMounts, Step::MountProc]),
        Probe::FreshSys => (&[Kind::Net, Kind::Mount], &[Step::PrivateMounts, Step::MountSys]),
        Probe::SharedMemory => (&[Kind::Ipc, Kind::Mount], &[Step::PrivateMounts, Step::MountShm]),
        Probe::Loopback => (&[Kind::Net], &[Step::Loopback]),
        // A fresh proc is writable even if the caller's /proc is read-only.
        Probe::Ping => (
            &[Kind::Pid, Kind::Net, Kind::Mount],
            &[Step::PrivateMounts, Step::MountProc, Step::Ping],
        ),
        Probe::Overlay | Probe::PivotRoot | Probe::ReadOnly | Probe::Devpts => {
            (&[Kind::Mount], &[Step::PrivateMounts])
        }
        Probe::ResolveInRoot
        | Probe::Unshare
        | Probe::Pidfd
        | Probe::PidfdGroup
        | Probe::CloseRange
        | Probe::MemfdExec
        | Probe::Seccomp
        | Probe::Landlock
        | Probe::Forever
        | Probe::Directory
        | Probe::FilterClone
        | Probe::FilterUnshare
        | Probe::FilterMount
        | Probe::FilterSetns
        | Probe::FilterMemfd => (&[], &[]),
    }
}

fn ping_socket(sequence: &mut Sequence) {
    let args = [named!(AF_INET), named!(SOCK_DGRAM | SOCK_CLOEXEC), named!(IPPROTO_ICMP)];
    sequence.call(STEP, number::SOCKET, args);
}

/// A tmpfs over [`BASE`], which becomes the working directory.
fn scratch(sequence: &mut Sequence) {
    let flags = named!(MS_NOSUID | MS_NODEV);
    mount(sequence, STEP, Some(c"tmpfs"), BASE, Some(c"tmpfs"), flags, Some(c"mode=755"));
    let path = sequence.text(BASE);
    sequence.call(STEP, number::CHDIR, [path]).about(BASE);
}

fn directory(sequence: &mut Sequence, path: &std::ffi::CStr) {
    let name = sequence.text(path);
    sequence.call(STEP, MKDIRAT, [at_cwd(), name, Arg::mode(0o755)]).about(path);
}

fn create(sequence: &mut Sequence, path: &std::ffi::CStr) {
    let name = sequence.text(path);
    let flags = named!(O_WRONLY | O_CREAT | O_CLOEXEC);
    sequence.call(STEP, number::OPENAT, [at_cwd(), name, flags, Arg::mode(0o644)]).about(path);
}

fn overlay(sequence: &mut Sequence) {
    const LAYERS: &std::ffi::CStr = c"lowerdir=lower,upperdir=upper,workdir=work,userxattr";
    scratch(sequence);
    for path in [c"lower", c"upper", c"work", c"merged"] {
        directory(sequence, path);
    }
    create(sequence, c"lower/file");
    let (overlay, merged) = (c"overlay", c"merged");
    mount(sequence, STEP, Some(overlay), merged, Some(overlay), Arg::Int(0), Some(LAYERS));
    create(sequence, c"merged/new");
    // The deletion tests that the layer can hold a whiteout.
    let file = c"merged/file";
    let name = sequence.text(file);
    sequence.call(STEP, number::UNLINKAT, [at_cwd(), name, Arg::Int(0)]).about(file);
}

fn new_root(sequence: &mut Sequence) {
    scratch(sequence);
    let here = sequence.text(c".");
    sequence.call(STEP, PIVOT_ROOT, [here.clone(), here.clone()]);
    sequence.call(STEP, number::UMOUNT2, [here, named!(MNT_DETACH)]);
}

fn read_only(sequence: &mut Sequence) {
    scratch(sequence);
    // struct mount_attr: attr_set comes first.
    let mut attributes = [0_u8; 32];
    attributes[..8].copy_from_slice(&libc::MOUNT_ATTR_RDONLY.to_ne_bytes());
    let size = attributes.len().into();
    let attributes = sequence.structure(&attributes, "{attr_set=MOUNT_ATTR_RDONLY}");
    let path = sequence.text(BASE);
    let args = [at_cwd(), path, named!(AT_RECURSIVE), attributes, size];
    sequence.call(STEP, MOUNT_SETATTR, args).about(BASE);
}

fn resolve_in_root(sequence: &mut Sequence) {
    // struct open_how: flags, mode, resolve.
    let mut how = [0_u8; 24];
    let flags = (libc::O_PATH | libc::O_CLOEXEC) as u64;
    how[..8].copy_from_slice(&flags.to_ne_bytes());
    how[16..].copy_from_slice(&libc::RESOLVE_IN_ROOT.to_ne_bytes());
    let size = how.len().into();
    let how = sequence.structure(&how, "{O_PATH|O_CLOEXEC, resolve=RESOLVE_IN_ROOT}");
    let path = sequence.text(c"/");
    sequence.call(STEP, OPENAT2, [at_cwd(), path, how, size]);
}

/// Sends signal 0, which only checks, through a pidfd of the child itself.
fn signal_self(sequence: &mut Sequence, flags: Arg) {
    let (pid, pidfd) = (sequence.cell(), sequence.cell());
    sequence.call(STEP, number::GETPID, []).into(pid);
    sequence.call(STEP, number::PIDFD_OPEN, [pid.into(), 0.into()]).into(pidfd);
    sequence.call(STEP, PIDFD_SEND_SIGNAL, [pidfd.into(), 0.into(), Arg::Null, flags]);
}

fn no_new_privileges(sequence: &mut Sequence) -> Appended<'_> {
    let args = [named!(PR_SET_NO_NEW_PRIVS), 1.into(), 0.into(), 0.into(), 0.into()];
    sequence.call(STEP, number::PRCTL, args)
}

fn seccomp(sequence: &mut Sequence) {
    no_new_privileges(sequence);
    let allow = libc::sock_filter {
        code: (libc::BPF_RET | libc::BPF_K) as u16,
        jt: 0,
        jf: 0,
        k: libc::SECCOMP_RET_ALLOW,
    };
    let filter = sequence.filter(&[allow], "{allow everything}".to_owned());
    sequence.call(STEP, SECCOMP, [named!(SECCOMP_SET_MODE_FILTER), 0.into(), filter]);
}

fn landlock(sequence: &mut Sequence) {
    no_new_privileges(sequence);
    // struct landlock_ruleset_attr of version 1, which handles LANDLOCK_ACCESS_FS_EXECUTE.
    let attributes = 1_u64.to_ne_bytes();
    let size = attributes.len().into();
    let attributes = sequence.structure(&attributes, "{LANDLOCK_ACCESS_FS_EXECUTE}");
    let ruleset = sequence.cell();
    let args = [attributes, size, 0.into()];
    sequence.call(STEP, LANDLOCK_CREATE_RULESET, args).into(ruleset);
    sequence.call(STEP, LANDLOCK_RESTRICT_SELF, [ruleset.into(), 0.into()]);
}

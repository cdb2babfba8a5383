//! A copy of the caller instead of a command.
//!
//! The child that shares the caller's memory makes the container. Then it calls `fork()` of the caller's C library
//! (one copy of the page tables, with every at-fork handler), and executes init. Init stays PID 1 and adopts the
//! copy as its command.

use std::mem::offset_of;

use minidocker_init::program::{Header, role};

use super::call::{Arg, Handle, named};
use super::confine::Confined;
use super::file_calls::write_file;
use super::kernel_filesystems::KernelFilesystems;
use super::sequence::Sequence;
use super::stages::StageBuilder;
use super::{execute, limits, number};
use crate::error::{Remedy, Setting, SpecError};
use crate::spec::namespaces::Kind;
use crate::step::Step;

/// The kernel's `RESERVED_PIDS`: after a wrap-around pids start here. A process with a lower pid is in a PID namespace
/// that has had few processes.
const RESERVED_PIDS: u32 = 300;

pub(super) fn cannot_enter() -> SpecError {
    SpecError::new(
        "network",
        "a container",
        "a process inside could read the memory of the copy of the caller while it enters",
        Remedy::with("Use {}, which does not share the caller's memory", Setting::NewProgram),
    )
}

impl StageBuilder<'_> {
    /// The calls from the fork on: those of the child, of init, and of the copy.
    pub(super) fn fork(&mut self) -> Result<(), SpecError> {
        let (spec, host, new) = (self.spec, self.host, self.new);
        let also = self.signals_to_reset();
        let Some(how) = self.command else { return Ok(()) };
        let confined = Confined::new(spec, host, self.files, new)?;
        let kernel_fs = self.kernel_fs;
        let sequence = self.sequence();
        if new.contains(Kind::Pid) && host.pid < RESERVED_PIDS {
            differ_from_the_caller(sequence, host.pid, kernel_fs);
        }
        // The copy makes no exec, which would close them. Some are directories of the host.
        sequence.close_what_is_open();
        let pid = sequence.cell();
        sequence
            .call(Step::ForkCaller, number::FORK_CALLER, [Arg::Program])
            .into(pid)
            .note("the one copy of the caller's page tables: it is the command");
        sequence
            .call(Step::ForkCaller, number::UNSHARE, [named!(CLONE_THREAD)])
            .note("checks that no at-fork handler has started a thread here, which exec would end");
        // After the fork, because the copy keeps the caller's handlers and descriptors, as after fork(2).
        sequence.reset_signals(also);
        let program = Handle::Program(0);
        let mut kept = vec![program, Handle::Control];
        if spec.die_with_parent {
            kept.push(Handle::Caller);
        }
        execute::no_descriptors(sequence, &kept);
        let value = Sequence::address_of(pid, "<pid>");
        let at = offset_of!(Header, adopted);
        let args = [program.into(), value, size_of::<i32>().into(), at.into()];
        limits::raise_file_size(sequence, host);
        sequence
            .call(Step::ExecHelper, number::PWRITE64, args)
            .note("init learns the command's pid");
        limits::restore_file_size(sequence, host);
        execute::exec_helper(sequence, program, Handle::Control);
        self.stage(role::INIT);
        self.stage(role::FORKED);
        let fresh_root = self.fresh_root(None);
        // Only in a PID namespace: elsewhere the copy stays in the first process's session, which ends with it.
        let start = execute::Start { session: new.contains(Kind::Pid), fresh_root };
        // In another user namespace no process outside may trace the copy, so it can be dumpable, and read its
        // own /proc, even after a change of ids. In the caller's own it stays closed to others.
        let restores_dumpable = new.contains(Kind::User);
        let sequence = self.sequence();
        execute::redirect(sequence, how.stdio);
        if !spec.confine.is_bare() {
            sequence
                .call(Step::Confine, number::UNSHARE, [named!(CLONE_THREAD)])
                .note("checks that there is no other thread, which would run unconfined");
        }
        execute::prepare_process(sequence, &confined, how, host, restores_dumpable, start);
        sequence.close_what_is_open();
        confined.check_copy(sequence)
    }
}

/// Makes the next pid differ from the caller's low pid: libraries tell parent and child apart by their pids. Ignores a
/// failure, since equal pids are rare.
fn differ_from_the_caller(sequence: &mut Sequence, own: u32, kernel_fs: KernelFilesystems) {
    let last = own.to_string();
    let at = kernel_fs.in_proc(c"/proc/sys/kernel/ns_last_pid");
    write_file(sequence, Step::ForkCaller, at, last.as_bytes(), true);
}

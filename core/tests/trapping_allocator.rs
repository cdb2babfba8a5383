//! Nothing is allocated or freed between clone and exec.
//!
//! The child shares the caller's memory, and a thread of the caller may hold the allocator's lock at that
//! moment. The allocator of this test kills every process that calls it except the test's own.

#![expect(unsafe_code, reason = "an allocator, and clone(2) for the control")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::{CStr, CString, c_int, c_void};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};

use minidocker_core::error::LaunchError;
use minidocker_core::host::Host;
use minidocker_core::launch::LaunchParams;
use minidocker_core::plan::Plan;
use minidocker_core::process::Process;
use minidocker_core::spec::namespaces::NamespaceOptions;
use minidocker_core::spec::{CommandSpec, IdMap, IdRow, Payload, Spec};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

struct Trap;

static HOME: AtomicI64 = AtomicI64::new(0);

/// End the process unless it was the first to allocate.
fn check() {
    // A raw system call: a library may cache the pid in memory, which the child shares.
    // SAFETY: takes no argument and cannot fail.
    let pid = unsafe { libc::syscall(libc::SYS_getpid) };
    let home = HOME.compare_exchange(0, pid, Ordering::Relaxed, Ordering::Relaxed);
    if home.is_err_and(|home| home != pid) {
        let message = b"a child that shares the caller's memory called the allocator\n";
        // SAFETY: the message is valid for its length.
        unsafe { libc::syscall(libc::SYS_write, 2, message.as_ptr(), message.len()) };
        // The kernel forces this SIGILL on the process even if it is blocked, and even on a PID 1.
        // SAFETY: the instruction does nothing but raise SIGILL.
        unsafe { trap() };
    }
}

#[cfg(target_arch = "x86_64")]
unsafe fn trap() -> ! {
    // SAFETY: the instruction raises SIGILL and does not return.
    unsafe { std::arch::asm!("ud2", options(noreturn)) }
}

#[cfg(target_arch = "aarch64")]
unsafe fn trap() -> ! {
    // SAFETY: the instruction raises SIGILL and does not return.
    unsafe { std::arch::asm!("udf #0", options(noreturn)) }
}

// SAFETY: the system allocator does the work.
unsafe impl GlobalAlloc for Trap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        check();
        // SAFETY: the caller meets the conditions of the system allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        check();
        // SAFETY: as above.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static TRAP: Trap = Trap;

/// Lets one test run at a time, so that a `waitpid` never sees a child of another test.
static ALONE: Mutex<()> = Mutex::new(());

fn text(text: &str) -> CString {
    CString::new(text).expect("no NUL")
}

fn command(file: &CStr) -> CommandSpec {
    let mut command = CommandSpec::new(file.to_owned(), vec![text("true")]);
    command.candidates.insert(0, text("/nonexistent/true"));
    command.envp = [text("NAME=value")].into_iter().collect();
    command
}

/// Return specs that any user may launch, each with different calls between clone and exec.
fn specs() -> Vec<Spec> {
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let row = |outside| IdMap::Rows(vec![IdRow { inside: 0, outside, count: 1 }]);
    let all = NamespaceOptions::all();
    vec![
        Spec {
            hostname: Some(b"lab".to_vec()),
            domainname: Some(b"net".to_vec()),
            ..Spec::default()
        },
        Spec { namespaces: NamespaceOptions::none(), ..Spec::default() },
        Spec { namespaces: all.with_time(), ..Spec::default() },
        Spec { namespaces: all.without_pid(), die_with_parent: false, ..Spec::default() },
        Spec { uid_map: row(uid), gid_map: row(gid), ..Spec::default() },
        Spec { init: true, ..Spec::default() },
    ]
}

#[test]
fn nothing_is_allocated_between_clone_and_exec() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for spec in specs() {
        let command = command(c"/bin/true");
        let host = Host::gather(&spec).expect("facts about the host");
        let plan = Plan::new(&spec, Payload::Command(&command), &host, None).expect("a plan");
        let process = Process::launch(&plan, None, LaunchParams::default()).expect("a container");
        let status = waitpid(Pid::from_raw(process.pid()), None);
        assert_eq!(status, Ok(WaitStatus::Exited(Pid::from_raw(process.pid()), 0)), "{spec:?}");
    }
}

#[test]
fn nothing_is_allocated_by_a_child_that_fails() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for spec in specs() {
        let command = command(c"/bin/true");
        let host = Host::gather(&spec).expect("facts about the host");
        let plan = Plan::new(&spec, Payload::Command(&command), &host, None).expect("a plan");
        for number in 0..plan.call_count() as u32 {
            let inject = Some((number, libc::EPERM));
            // A child that trapped reports no failed call, and its wait status is not 0.
            match Process::launch(&plan, None, LaunchParams { inject, ..LaunchParams::default() }) {
                Err(LaunchError::Spawn(error)) => assert_eq!(error.errno, libc::EPERM),
                Err(error) => panic!("{error}"),
                Ok(process) => {
                    let pid = Pid::from_raw(process.pid());
                    assert_eq!(waitpid(pid, None), Ok(WaitStatus::Exited(pid, 0)), "{number}");
                }
            }
        }
    }
}

#[test]
fn a_child_that_allocates_is_caught() {
    extern "C" fn allocate(_: *mut c_void) -> c_int {
        drop(std::hint::black_box(Box::new(1)));
        0
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut stack = vec![0_u128; 4096];
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let top = stack.as_mut_ptr_range().end.cast();
    // SAFETY: only the child uses this stack, and CLONE_VFORK keeps it alive until the child has ended.
    let pid = unsafe { libc::clone(allocate, top, flags, std::ptr::null_mut()) };
    assert!(pid > 0);
    let pid = Pid::from_raw(pid);
    let status = waitpid(pid, None).expect("a child");
    assert!(matches!(status, WaitStatus::Signaled(_, Signal::SIGILL, _)), "{status:?}");
}

//! The floor of the benchmark: the fewest system calls that make the container of
//! `minidocker.run([PROGRAM], hostname="bench")`, start PROGRAM in it and wait for its end.
//!
//! ```text
//! floor [--bare | --without NAME,NAME…] PROGRAM
//! ```
//!
//! `--bare` makes no container, and `--without` leaves namespaces and steps out. Each line `T N` on standard input is
//! a request: T threads run PROGRAM N times each. The answer is a line of nanoseconds: those of the whole request,
//! then those of each run.

#![expect(unsafe_code, reason = "a clone that shares memory, an ioctl and an exec")]

use std::cell::Cell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io::{self, BufRead as _, IoSlice, IoSliceMut};
use std::mem::{ManuallyDrop, MaybeUninit};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;
use std::{env, fs, ptr, thread};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, Mode, OFlags, open};
use rustix::io::{Errno, write};
use rustix::ioctl::{Setter, ioctl};
use rustix::mount::{self, MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags};
use rustix::mount::{mount, mount_bind, mount_change};
use rustix::net::{self, AddressFamily, SendAncillaryMessage, SocketFlags, SocketType};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, SendAncillaryBuffer};
use rustix::process::{self, Pid, PidfdFlags, Signal, WaitOptions};
use rustix::system::sethostname;
use rustix::thread::{futex, set_no_new_privs};

const NAMESPACES: [(&str, c_int); 7] = [
    ("user", libc::CLONE_NEWUSER),
    ("pid", libc::CLONE_NEWPID),
    ("net", libc::CLONE_NEWNET),
    ("mount", libc::CLONE_NEWNS),
    ("uts", libc::CLONE_NEWUTS),
    ("ipc", libc::CLONE_NEWIPC),
    ("cgroup", libc::CLONE_NEWCGROUP),
];

type Step = fn(&Shared<'_>) -> Result<(), Errno>;

/// The child's steps before it executes the program. They leave descriptors open, because exec closes them.
const STEPS: [(&str, Step); 12] = [
    ("watchdog", register),
    ("session", |_| process::setsid().map(drop)),
    ("privileges", |_| set_no_new_privs(true)),
    ("hostname", |_| sethostname(b"bench")),
    ("loopback", |_| bring_up_loopback()),
    ("private", |_| {
        mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
    }),
    ("proc", |_| mount(c"proc", c"/proc", c"proc", HARDENED, None)),
    ("sysfs", |_| mount_sysfs()),
    ("shm", |_| mount_shm()),
    ("map", await_id_maps),
    ("hosts", mount_hosts),
    ("ping", |shared| {
        write_file(c"/proc/sys/net/ipv4/ping_group_range", shared.container.ping_group_range)
    }),
];

const HARDENED: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// The values that every run needs, computed once.
struct Container {
    flags: c_int,
    steps: Vec<(&'static str, Step)>,
    /// Files of `/proc/PID`, and the content that the parent writes to them.
    id_maps: Vec<(&'static str, String)>,
    /// The groups that may open ICMP sockets: all that are mapped.
    ping_group_range: &'static [u8],
    hosts: Vec<u8>,
    watchdog: UnixStream,
    program: CString,
}

/// The memory that parent and child of one run share.
struct Shared<'container> {
    container: &'container Container,
    /// 1 once the parent has written the id maps.
    mapped: AtomicU32,
    /// The step that failed. The parent reads it after the child has ended.
    failed: Cell<Option<(&'static str, io::Error)>>,
}

fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("floor: {why}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> io::Result<()> {
    let mut arguments: Vec<String> = env::args().skip(1).filter(|word| word != "--bench").collect();
    if arguments == ["--watchdog"] {
        return watch();
    }
    let program = arguments.pop().ok_or_else(|| io::Error::other("which program?"))?;
    let names = NAMESPACES.map(|(name, _)| name).into_iter().chain(STEPS.map(|(name, _)| name));
    let without: Vec<&str> = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Vec::new(),
        ["--bare"] => names.collect(),
        ["--without", names] => names.split(',').collect(),
        _ => return Err(io::Error::other(format!("no such options: {arguments:?}"))),
    };
    let container = Container::new(&program, &without)?;
    for line in io::stdin().lock().lines() {
        let line = line?;
        let numbers = line.split_once(' ').map(|(threads, runs)| (threads.parse(), runs.parse()));
        let Some((Ok(threads), Ok(runs))) = numbers else {
            return Err(io::Error::other(format!("no such request: {line:?}")));
        };
        println!("{}", measure(&container, threads, runs)?.join(" "));
    }
    Ok(())
}

/// Returns the nanoseconds of all runs together, then those of each run.
fn measure(container: &Container, threads: usize, runs: usize) -> io::Result<Vec<String>> {
    let time_runs = || {
        let mut stack = vec![0_u128; 4096];
        let time_run = |_| {
            let start = Instant::now();
            run(container, &mut stack)?;
            Ok(start.elapsed().as_nanos().to_string())
        };
        (0..runs).map(time_run).collect::<io::Result<Vec<String>>>()
    };
    let start = Instant::now();
    let each = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(time_runs)).collect();
        let times = workers.into_iter().map(|worker| worker.join().expect("no worker panics"));
        times.collect::<io::Result<Vec<_>>>().map(|times| times.concat())
    })?;
    Ok([vec![start.elapsed().as_nanos().to_string()], each].concat())
}

impl Container {
    fn new(program: &str, without: &[&str]) -> io::Result<Self> {
        let keeps = |name: &str| !without.contains(&name);
        let (user, group) = (process::geteuid(), process::getegid());
        let mut id_maps = Vec::new();
        if keeps("user") && user.is_root() {
            id_maps = vec![("uid_map", identity("uid_map")?), ("gid_map", identity("gid_map")?)];
        } else if keeps("user") {
            id_maps.push(("setgroups", "deny".to_owned()));
            id_maps.push(("uid_map", format!("0 {user} 1")));
            id_maps.push(("gid_map", format!("0 {group} 1")));
        }
        let (watchdog, theirs) = UnixStream::pair()?;
        if keeps("watchdog") {
            let mut command = Command::new(env::current_exe()?);
            command.arg("--watchdog").stdin(Stdio::from(OwnedFd::from(theirs))).spawn()?;
        }
        let kept = NAMESPACES.iter().filter(|(name, _)| keeps(name));
        Ok(Self {
            flags: kept.fold(0, |flags, (_, flag)| flags | flag),
            steps: STEPS.into_iter().filter(|(name, _)| keeps(name)).collect(),
            id_maps,
            ping_group_range: if user.is_root() { b"0 2147483647" } else { b"0 0" },
            hosts: [b"127.0.1.1\tbench\n", fs::read("/etc/hosts")?.as_slice()].concat(),
            watchdog,
            program: CString::new(program)?,
        })
    }
}

/// Every id that the caller has, mapped to itself.
fn identity(name: &str) -> io::Result<String> {
    let rows = fs::read_to_string(format!("/proc/self/{name}"))?;
    let row = |row: &str| match row.split_whitespace().collect::<Vec<_>>()[..] {
        [first, _, count] => format!("{first} {first} {count}\n"),
        _ => String::new(),
    };
    Ok(rows.lines().map(row).collect())
}

/// One run, from the clone until the child has been reaped.
fn run(container: &Container, stack: &mut [u128]) -> io::Result<()> {
    let shared = Shared { container, mapped: AtomicU32::new(0), failed: Cell::new(None) };
    // Without CLONE_VFORK the parent runs on, and writes the id maps.
    let flags = libc::CLONE_VM | libc::SIGCHLD | container.flags;
    let top = stack.as_mut_ptr_range().end.cast();
    let argument = ptr::from_ref(&shared).cast_mut().cast();
    // SAFETY: only the child uses the stack. Stack and `shared` outlive the child's use of this memory, because
    // `waitpid` returns after its end. `child` does not unwind, and no signal that it may get has a handler.
    let pid = unsafe { libc::clone(child, top, flags, argument) };
    let pid = Pid::from_raw(pid.max(0)).ok_or_else(io::Error::last_os_error)?;
    let write_map = |(name, content): &(_, _)| fs::write(format!("/proc/{pid}/{name}"), content);
    let mapped = container.id_maps.iter().try_for_each(write_map);
    if mapped.is_err() {
        process::kill_process(pid, Signal::KILL)?;
    }
    shared.mapped.store(1, Ordering::Release);
    futex::wake(&shared.mapped, futex::Flags::PRIVATE, 1)?;
    let ended = process::waitpid(Some(pid), WaitOptions::empty())?;
    mapped?;
    match (shared.failed.take(), ended) {
        (Some((step, why)), _) => Err(io::Error::new(why.kind(), format!("{step}: {why}"))),
        (None, Some((_, status))) if status.exit_status() == Some(0) => Ok(()),
        (None, ended) => Err(io::Error::other(format!("the program ended: {ended:?}"))),
    }
}

extern "C" fn child(argument: *mut c_void) -> c_int {
    // SAFETY: `run` passes a reference to a `Shared` that outlives this function.
    let shared = unsafe { &*argument.cast::<Shared<'_>>() };
    for (name, step) in &shared.container.steps {
        if let Err(errno) = step(shared) {
            shared.failed.set(Some((name, errno.into())));
            return 127;
        }
    }
    let program = shared.container.program.as_ptr();
    let arguments: [*const c_char; 2] = [program, ptr::null()];
    // SAFETY: the strings end in NUL, and their list ends in a null pointer.
    unsafe { libc::execv(program, arguments.as_ptr()) };
    shared.failed.set(Some(("exec", io::Error::last_os_error())));
    127
}

fn await_id_maps(shared: &Shared<'_>) -> Result<(), Errno> {
    while shared.mapped.load(Ordering::Acquire) == 0 {
        match futex::wait(&shared.mapped, futex::Flags::PRIVATE, 0, None) {
            Ok(()) | Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Sends a pidfd of the child to the watchdog.
fn register(shared: &Shared<'_>) -> Result<(), Errno> {
    let new_pid = shared.container.flags & libc::CLONE_NEWPID != 0;
    let own = if new_pid { Pid::INIT } else { process::getpid() };
    let pidfd = ManuallyDrop::new(process::pidfd_open(own, PidfdFlags::empty())?);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [pidfd.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    let byte = [IoSlice::new(b"\0")];
    let socket = &shared.container.watchdog;
    net::sendmsg(socket, &byte, &mut control, net::SendFlags::empty()).map(drop)
}

fn bring_up_loopback() -> Result<(), Errno> {
    // struct ifreq: the name in 16 bytes, then the flags in a union of 24.
    let mut request = [0_u8; 40];
    request[..2].copy_from_slice(b"lo");
    request[16..18].copy_from_slice(&(libc::IFF_UP as u16).to_ne_bytes());
    let (kind, cloexec) = (SocketType::DGRAM, SocketFlags::CLOEXEC);
    let socket = ManuallyDrop::new(net::socket_with(AddressFamily::INET, kind, cloexec, None)?);
    // SAFETY: SIOCSIFFLAGS reads a struct ifreq.
    let up = unsafe { Setter::<{ libc::SIOCSIFFLAGS as _ }, _>::new(request) };
    // SAFETY: as above.
    unsafe { ioctl(&*socket, up) }
}

/// Mounts a fresh sysfs, and moves the mount on /sys/fs/cgroup to it.
fn mount_sysfs() -> Result<(), Errno> {
    let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let flags = clone | OpenTreeFlags::AT_RECURSIVE;
    let groups = ManuallyDrop::new(mount::open_tree(CWD, c"/sys/fs/cgroup", flags)?);
    mount(c"sysfs", c"/sys", c"sysfs", HARDENED, None)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    mount::move_mount(groups.as_fd(), c"", CWD, c"/sys/fs/cgroup", flags)
}

fn mount_shm() -> Result<(), Errno> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount(c"tmpfs", c"/dev/shm", c"tmpfs", flags, c"mode=1777")
}

/// Binds a file of the private `/dev/shm` over `/etc/hosts`, and covers its other name.
fn mount_hosts(shared: &Shared<'_>) -> Result<(), Errno> {
    write_file(c"/dev/shm/hosts", &shared.container.hosts)?;
    mount_bind(c"/dev/shm/hosts", c"/etc/hosts")?;
    mount_shm()
}

fn write_file(path: &CStr, content: &[u8]) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
    let file = ManuallyDrop::new(open(path, flags, Mode::from_raw_mode(0o644))?);
    write(&*file, content).map(drop)
}

/// The watchdog: keeps the pidfds that it receives, and kills their processes once the last sender has gone.
fn watch() -> io::Result<()> {
    let input = io::stdin();
    let mut watched: Vec<OwnedFd> = Vec::new();
    loop {
        let mut polled = vec![PollFd::new(&input, PollFlags::IN)];
        polled.extend(watched.iter().map(|pidfd| PollFd::new(pidfd, PollFlags::IN)));
        poll(&mut polled, None)?;
        let ready: Vec<bool> = polled.iter().map(|one| !one.revents().is_empty()).collect();
        let mut ended = ready[1..].iter();
        watched.retain(|_| ended.next() == Some(&false));
        if !ready[0] {
            continue;
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0_u8];
        let mut bytes = [IoSliceMut::new(&mut byte)];
        let flags = net::RecvFlags::CMSG_CLOEXEC;
        if net::recvmsg(&input, &mut bytes, &mut control, flags)?.bytes == 0 {
            return Ok(watched
                .iter()
                .try_for_each(|one| process::pidfd_send_signal(one, Signal::KILL))?);
        }
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(pidfds) = message {
                watched.extend(pidfds);
            }
        }
    }
}

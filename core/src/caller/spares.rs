//! Spare namespaces, as the caller sees them: made after a launch, used by the next one.
//!
//! A user, a network and an IPC namespace take most of the time that a container takes, and nothing of
//! them depends on the command. With the id maps, which mostly stay the same, most file systems do not either. The
//! watchdog has all that made, by a process that ends at once, some time after a container has registered; what
//! comes of it waits in a socket.
//! Without them, whatever the reason, a launch makes its own.
//!
//! A user namespace belongs to whoever made it, and keeps the maker's resource limits for all who are in
//! it. So what was made is used only as long as the caller is what it was when its watchdog started.

use std::ffi::CStr;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};

use rustix::fs::stat;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use rustix::thread::CapabilitySet;

use super::Kept;
use crate::plan::ahead::MadeAhead;
use crate::program::{Made, Told, ahead, told};
use crate::sys::{self, fd};

/// So many times, and no more spare namespaces are asked for.
const REFUSALS: u32 = 3;

/// Namespaces that nobody is in, and file systems of theirs that are mounted nowhere.
///
/// Processes that other threads fork meanwhile have its descriptors too, and would keep the container's file
/// systems as long as they live: so it is known of, from the moment that it comes until it is closed.
#[derive(Debug)]
pub(crate) struct Spare {
    /// User, network, IPC.
    namespaces: [RawFd; ahead::NAMESPACES],
    /// In the order of [`FileSystem`](crate::plan::ahead::FileSystem); where there are some, the id maps are
    /// written too.
    file_systems: Option<[RawFd; ahead::FILE_SYSTEMS]>,
    /// Whether it is written who may use ICMP sockets.
    ping: bool,
}

impl Spare {
    /// Takes what has come; whoever calls this takes note of it.
    pub(super) fn of(received: Received) -> Self {
        let Received { made, namespaces, file_systems } = received;
        Self {
            namespaces: namespaces.map(IntoRawFd::into_raw_fd),
            file_systems: file_systems.map(|all| all.map(IntoRawFd::into_raw_fd)),
            ping: made.ping != 0,
        }
    }

    /// User, network, IPC.
    pub(crate) const fn namespaces(&self) -> [RawFd; ahead::NAMESPACES] {
        self.namespaces
    }

    /// What there is.
    pub(crate) const fn made(&self) -> MadeAhead {
        MadeAhead { namespaces: true, all: self.file_systems.is_some(), ping: self.ping }
    }

    /// -1 where there are none.
    pub(crate) fn file_systems(&self) -> [RawFd; ahead::FILE_SYSTEMS] {
        self.file_systems.unwrap_or([-1; ahead::FILE_SYSTEMS])
    }

    /// All of them.
    pub(crate) fn descriptors(&self) -> Vec<RawFd> {
        self.namespaces.into_iter().chain(self.file_systems.into_iter().flatten()).collect()
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        super::give_back(&self.descriptors());
    }
}

/// What has come through the socket.
pub(super) struct Received {
    made: Made,
    namespaces: [OwnedFd; ahead::NAMESPACES],
    file_systems: Option<[OwnedFd; ahead::FILE_SYSTEMS]>,
}

#[derive(Default)]
pub(super) struct Spares {
    /// Where they come; `None` where none are wanted any more.
    socket: Option<Kept>,
    /// Who asked for them.
    maker: Option<Maker>,
    /// How often some could not be entered.
    refused: u32,
}

impl Spares {
    /// With a socket that the watchdog knows, where there is room for one: what is made goes through it.
    pub(super) fn new(watchdog: BorrowedFd<'_>) -> Self {
        let connect = || {
            // The pid of a child that is cloned elsewhere is not the caller's for it.
            let maker = Maker::now().filter(Maker::has_its_children_here)?;
            let (theirs, ours) = fd::socket_pair().ok()?;
            let capabilities = maker.capabilities.bits().to_ne_bytes();
            let told = Told { capabilities, ..Told::new(told::SPARES, Made::NOTHING) };
            send(&told, &[theirs.as_fd(), ours.as_fd()], watchdog)?;
            Some((Kept::new(ours).ok()?, maker))
        };
        let (socket, maker) = connect().unzip();
        Self { socket, maker, refused: 0 }
    }

    /// What is there, as long as the caller would have made the same.
    pub(super) fn take(&mut self, watchdog: BorrowedFd<'_>, wanted: &Made) -> Option<Received> {
        let socket = self.socket.as_ref().filter(|socket| socket.is_ours())?;
        if self.maker == Maker::now() {
            let received = receive(socket.fd())?;
            // Maps are written once. What was made for another container goes.
            return received.made.serves(wanted).then_some(received);
        }
        // It will not be what it was.
        self.stop(watchdog);
        None
    }

    /// Gives up what is there.
    pub(super) fn drop_all(&self) {
        if let Some(socket) = self.socket.as_ref().filter(|socket| socket.is_ours()) {
            while receive(socket.fd()).is_some() {}
        }
    }

    /// Takes note that some may not be entered: a caller that may not enter namespaces at all, though it may make
    /// them, needs none.
    pub(super) fn refuse(&mut self, watchdog: BorrowedFd<'_>) {
        self.refused += 1;
        if self.refused == REFUSALS {
            self.stop(watchdog);
        }
    }

    /// No more of them. Where the watchdog does not hear of it, it makes some that nobody takes.
    fn stop(&mut self, watchdog: BorrowedFd<'_>) {
        let _ = send(&Told::new(told::NO_SPARES, Made::NOTHING), &[], watchdog);
        self.socket = None;
    }

    /// Whether the socket, if there was one, is still what it was.
    pub(super) fn are_ours(&self) -> bool {
        self.socket.as_ref().is_none_or(Kept::is_ours)
    }
}

/// What of the calling process user namespaces depend on: `user_namespaces(7)`.
#[derive(PartialEq, Eq)]
struct Maker {
    uid: u32,
    gid: u32,
    limits: [(u64, u64); 4],
    /// A process with another root may make none.
    root: (u64, u64),
    /// Effective ones: id maps are written with these, and no others.
    capabilities: CapabilitySet,
    /// Where its children are: the process that enters has to be in the same PID namespace, which is the caller's.
    children: (u64, u64),
}

impl Maker {
    /// `None` where /proc does not tell.
    fn now() -> Option<Self> {
        /// What a user namespace keeps for all its processes: `setrlimit(2)` counts them for each user.
        const LIMITS: [u32; 4] = [
            libc::RLIMIT_NPROC,
            libc::RLIMIT_MSGQUEUE,
            libc::RLIMIT_SIGPENDING,
            libc::RLIMIT_MEMLOCK,
        ];
        // The same for the main thread, whose files are nearer.
        let children = if super::is_main_thread() {
            c"/proc/self/ns/pid_for_children"
        } else {
            c"/proc/thread-self/ns/pid_for_children"
        };
        let mut limits = [(0, 0); 4];
        for (limit, resource) in limits.iter_mut().zip(LIMITS) {
            *limit = sys::resource_limit(resource).ok()?;
        }
        Some(Self {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            limits,
            capabilities: rustix::thread::capabilities(None).ok()?.effective,
            root: identity_at(c"/")?,
            children: identity_at(children)?,
        })
    }

    /// Whether they are in the PID namespace that this process is in, which never changes.
    fn has_its_children_here(&self) -> bool {
        identity_at(c"/proc/self/ns/pid") == Some(self.children)
    }
}

fn identity_at(path: &CStr) -> Option<(u64, u64)> {
    stat(path).ok().map(super::identity)
}

/// Says something. A watchdog that cannot take it now is no reason to wait or to fail.
fn send(told: &Told, fds: &[BorrowedFd<'_>], watchdog: BorrowedFd<'_>) -> Option<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut rights = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        rights.push(SendAncillaryMessage::ScmRights(fds));
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    sendmsg(watchdog, &[IoSlice::new(told.as_bytes())], &mut rights, flags).ok().map(drop)
}

/// The next ones; `None` where there are not as many.
fn some<const N: usize>(fds: &mut impl Iterator<Item = OwnedFd>) -> Option<[OwnedFd; N]> {
    fds.take(N).collect::<Vec<_>>().try_into().ok()
}

/// What has come; `None` where nothing has, or no descriptor is left for it.
fn receive(socket: BorrowedFd<'_>) -> Option<Received> {
    let mut made = Made::NOTHING;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(ahead::DESCRIPTORS))];
    let mut rights = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    while let Err(error) =
        recvmsg(socket, &mut [IoSliceMut::new(made.as_bytes_mut())], &mut rights, flags)
    {
        if error != rustix::io::Errno::INTR {
            return None;
        }
    }
    let fds = rights.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    })?;
    let mut fds = fds.map_while(|fd| fd::above_stdio(fd).ok());
    let namespaces = some(&mut fds)?;
    // Maps that are written cannot be written again, so what has them is of use as a whole only.
    let file_systems = if made.all == 0 { None } else { Some(some(&mut fds)?) };
    Some(Received { made, namespaces, file_systems })
}

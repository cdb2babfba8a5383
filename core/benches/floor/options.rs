//! What the command line asks for.

use std::ffi::CString;
use std::os::unix::net::UnixStream;

/// Who writes the id maps.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Map {
    /// The child, one row.
    Child,
    /// The parent, its own rows, while the child waits.
    Parent,
}

/// Where the container's hosts file comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hosts {
    /// There is none.
    None,
    /// A file that was made beforehand.
    Bind,
    /// A file made on the private `/dev/shm`, which another tmpfs then covers.
    Shm,
    /// A file on a tmpfs that is mounted nowhere.
    Detached,
}

/// Steps with their state when nothing is said, namespaces first.
const STEPS: [(&str, bool); 19] = [
    ("user", true),
    ("pid", true),
    ("net", true),
    ("mount", true),
    ("uts", true),
    ("ipc", true),
    ("cgroup", true),
    ("loopback", true),
    ("proc", true),
    ("sysfs", true),
    ("cgroupfs", true),
    ("shm", true),
    ("ping", true),
    ("pidfd", true),
    ("watchdog", true),
    ("signals", true),
    ("descriptors", true),
    ("privileges", true),
    ("root", false),
];

/// What one iteration is made of.
pub(crate) struct Options {
    steps: Vec<&'static str>,
    pub(crate) map: Map,
    pub(crate) hosts: Hosts,
    pub(crate) vfork: bool,
    /// The socket to a watchdog, to which the child sends a pidfd of itself.
    pub(crate) watchdog: Option<UnixStream>,
    pub(crate) explain: bool,
    pub(crate) serve: bool,
    pub(crate) iterations: usize,
    pub(crate) program: CString,
}

pub(crate) const USAGE: &str = "\
usage: floor [--bare] [--without STEP] [--with STEP] [--map child|parent] [--wait futex|vfork]
             [--hosts none|bind|shm|detached] [--explain | --serve | --iterations N] PROGRAM
steps: user pid net mount uts ipc cgroup loopback proc sysfs cgroupfs shm ping pidfd
       watchdog signals descriptors privileges, and root (off unless asked for)
--serve reads lines: `RUN n` answers n durations; `THREADS t n`: how long t threads took for n
each. All durations are in nanoseconds.";

impl Options {
    /// Reads the arguments, without the program's own name.
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        // SAFETY: it only reads the credentials of the calling process.
        #[expect(unsafe_code, reason = "std has no geteuid")]
        let root = unsafe { libc::geteuid() } == 0;
        let mut options = Self {
            steps: STEPS.iter().filter(|(_, on)| *on).map(|(name, _)| *name).collect(),
            map: if root { Map::Parent } else { Map::Child },
            hosts: Hosts::Shm,
            vfork: false,
            watchdog: None,
            explain: false,
            serve: false,
            iterations: 2_000,
            program: CString::default(),
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value"));
            match word.as_str() {
                // What cargo bench passes to a target without a harness.
                "--bench" => {}
                "--bare" => {
                    options.steps.clear();
                    options.hosts = Hosts::None;
                    options.vfork = true;
                }
                "--with" | "--without" => options.switch(&value()?, word == "--with")?,
                "--map" => {
                    options.map = match value()?.as_str() {
                        "child" => Map::Child,
                        "parent" => Map::Parent,
                        other => return Err(format!("--map is child or parent, not {other:?}")),
                    }
                }
                "--wait" => {
                    options.vfork = match value()?.as_str() {
                        "vfork" => true,
                        "futex" => false,
                        other => return Err(format!("--wait is futex or vfork, not {other:?}")),
                    }
                }
                "--hosts" => {
                    options.hosts = match value()?.as_str() {
                        "none" => Hosts::None,
                        "bind" => Hosts::Bind,
                        "shm" => Hosts::Shm,
                        "detached" => Hosts::Detached,
                        other => return Err(format!("--hosts has no way called {other:?}")),
                    }
                }
                "--explain" => options.explain = true,
                "--serve" => options.serve = true,
                "--iterations" => {
                    let text = value()?;
                    options.iterations =
                        text.parse().map_err(|_| format!("--iterations: {text:?} is no number"))?;
                }
                other if other.starts_with('-') => {
                    return Err(format!("no option is called {other:?}"));
                }
                other => options.program = CString::new(other).map_err(|why| why.to_string())?,
            }
        }
        if options.program.is_empty() {
            c"/bin/true".clone_into(&mut options.program);
        }
        options.settle()
    }

    /// Whether the step is on.
    pub(crate) fn has(&self, step: &str) -> bool {
        self.steps.contains(&step)
    }

    /// The namespace flags of the steps that are on.
    pub(crate) fn clone_flags(&self) -> i32 {
        [
            ("user", libc::CLONE_NEWUSER),
            ("pid", libc::CLONE_NEWPID),
            ("net", libc::CLONE_NEWNET),
            ("mount", libc::CLONE_NEWNS),
            ("uts", libc::CLONE_NEWUTS),
            ("ipc", libc::CLONE_NEWIPC),
            ("cgroup", libc::CLONE_NEWCGROUP),
        ]
        .iter()
        .filter(|(step, _)| self.has(step))
        .fold(0, |flags, (_, flag)| flags | flag)
    }

    fn switch(&mut self, step: &str, on: bool) -> Result<(), String> {
        let (name, _) = STEPS
            .iter()
            .find(|(name, _)| *name == step)
            .ok_or_else(|| format!("no step is called {step:?}"))?;
        self.steps.retain(|other| other != name);
        if on {
            self.steps.push(name);
        }
        Ok(())
    }

    /// Takes out what cannot be without another step, and refuses what contradicts itself.
    fn settle(mut self) -> Result<Self, String> {
        for (step, needs) in [
            ("loopback", "net"),
            ("sysfs", "net"),
            ("ping", "net"),
            ("ping", "proc"),
            ("proc", "pid"),
            ("proc", "mount"),
            ("sysfs", "mount"),
            ("shm", "mount"),
            ("cgroupfs", "sysfs"),
            ("root", "mount"),
            ("root", "pid"),
            ("root", "net"),
            ("root", "ipc"),
        ] {
            if !self.has(needs) {
                self.steps.retain(|other| *other != step);
            }
        }
        if !self.has("mount") || (self.hosts == Hosts::Shm && !self.has("shm")) {
            self.hosts = Hosts::None;
        }
        if self.vfork && self.has("user") && self.map == Map::Parent {
            return Err("--wait vfork suspends the parent, which can then write no map: \
                        add --map child"
                .to_owned());
        }
        Ok(self)
    }
}

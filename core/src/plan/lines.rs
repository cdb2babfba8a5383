//! Shows a plan: one line for each call, with its real arguments.

use std::fmt;

use minidocker_init::program::{pseudo, role};

use super::Plan;
use super::text::{quote, render, show_clone_flags};
use crate::host::files::{CallersTree, OuterLayer, TreeIds};
use crate::host::id_pool::RANGE;
use crate::spec::namespaces::Kind;
use crate::step::Step;

/// The process that makes a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// The calling process.
    Caller,
    /// The cloned child.
    Child,
    /// The helper that enters namespaces.
    Joiner,
    /// The helper as PID 1.
    Init,
    /// The child of init.
    Command,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Caller => "caller",
            Self::Child => "child",
            Self::Joiner => "joiner",
            Self::Init => "init",
            Self::Command => "command",
        })
    }
}

/// One line of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The process that makes the call.
    pub actor: Actor,
    /// The step that the call is for.
    pub step: Step,
    /// The call with its arguments, as strace(1) would show it.
    pub call: String,
    /// The purpose of the call, in a few words.
    pub note: Option<&'static str>,
    /// The file that a failure would be about.
    pub filename: Option<String>,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<7} {}", self.actor, self.call)?;
        match self.note {
            Some(note) => write!(f, "    # {note}"),
            None => Ok(()),
        }
    }
}

impl Plan {
    /// Every call, in the order of execution.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        let mut lines = self.caller_lines();
        for index in 0..self.stages.len() {
            lines.extend(self.stage_lines(index));
        }
        lines
    }

    /// The lines of the calls that a stage makes, one for each call.
    pub(crate) fn stage_lines(&self, index: usize) -> Vec<Line> {
        let stage = &self.stages[index];
        let mut actor = match stage.role {
            role::WALK if self.enters => Actor::Joiner,
            role::INIT | role::FORKED => Actor::Command,
            role::IDLE => Actor::Init,
            _ => Actor::Child,
        };
        let mut lines = Vec::with_capacity(stage.sequence.calls.len());
        for call in &stage.sequence.calls {
            lines.push(Line {
                actor,
                step: call.step,
                call: render(&stage.sequence, call, self.is_pid_1(stage.role)),
                note: call.note,
                filename: stage
                    .sequence
                    .filename(call)
                    .map(|name| name.to_string_lossy().into_owned()),
            });
            if call.number.number == pseudo::FORK {
                actor = Actor::Child;
            }
        }
        lines
    }

    fn is_pid_1(&self, role: u32) -> bool {
        self.namespaces().contains(Kind::Pid) && !matches!(role, role::INIT | role::FORKED)
    }

    /// The caller's own calls: the layers that are kept, the clone, the id maps.
    pub(crate) fn caller_lines(&self) -> Vec<Line> {
        let mut lines = self.layer_lines();
        let has_range = self.maps.as_ref().is_some_and(|maps| maps.pool.is_some());
        if has_range {
            let call = "flock(<range of ids>, LOCK_EX|LOCK_NB)";
            lines.push(Line {
                actor: Actor::Caller,
                step: Step::IdMaps,
                call: call.to_owned(),
                note: Some("ids that no other container has"),
                filename: None,
            });
        }
        for tree in &self.trees {
            lines.extend(tree_lines(tree));
        }
        if has_range {
            lines.push(Line {
                actor: Actor::Caller,
                step: Step::Clone,
                call: "setresuid(-1, <first id>, 0)".to_owned(),
                note: Some("for the clone: the creator of a user namespace pays for what it uses"),
                filename: None,
            });
        }
        // A user namespace that is entered is there already.
        if self.enters {
            lines.extend(self.mapping_lines());
            lines.push(self.clone_line());
        } else {
            lines.push(self.clone_line());
            lines.extend(self.map_lines());
            lines.extend(self.mapping_lines());
        }
        lines
    }

    fn layer_lines(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        for OuterLayer { path, .. } in &self.layers {
            let filename = path.to_string_lossy().into_owned();
            let mut add = |call: String, note: Option<&'static str>| {
                let (actor, step) = (Actor::Caller, Step::Overlay);
                let filename = Some(filename.clone());
                lines.push(Line { actor, step, call, note, filename });
            };
            let how = "{O_RDONLY|O_DIRECTORY|O_CLOEXEC, 0, RESOLVE_NO_SYMLINKS}";
            add(
                format!("openat2(AT_FDCWD, {}, {how}, 24) = <layer>", quote(path.to_bytes())),
                None,
            );
            let note = "for one container at a time";
            add("flock(<layer>, LOCK_EX|LOCK_NB)".to_owned(), Some(note));
            for name in ["upper", "work"] {
                let note = "keeps what the container writes";
                add(format!("mkdirat(<layer>, \"{name}\", 0700)"), Some(note));
                let flags = "O_PATH|O_DIRECTORY|O_NOFOLLOW|O_CLOEXEC";
                add(format!("openat(<layer>, \"{name}\", {flags}, 0) = <{name}>"), None);
            }
        }
        lines
    }

    /// The call that makes the child.
    fn clone_line(&self) -> Line {
        let shared = libc::CLONE_VM | libc::CLONE_CHILD_CLEARTID | libc::SIGCHLD;
        let flags = self.clone_flags | shared as u64;
        Line {
            actor: Actor::Caller,
            step: Step::Clone,
            call: format!("clone({}) = <child>", show_clone_flags(flags)),
            note: Some("no copy of the caller's memory"),
            filename: None,
        }
    }

    /// The id maps, which the caller writes while the child waits.
    fn map_lines(&self) -> Vec<Line> {
        let Some(maps) = &self.maps else { return Vec::new() };
        let line = |call: String| Line {
            actor: Actor::Caller,
            step: Step::IdMaps,
            call,
            note: None,
            filename: None,
        };
        let mut lines = Vec::new();
        if maps.deny_setgroups {
            lines.push(line("write(\"/proc/<child>/setgroups\", \"deny\")".to_owned()));
        }
        for (rows, file, program) in
            [(&maps.uid, "uid_map", "newuidmap"), (&maps.gid, "gid_map", "newgidmap")]
        {
            let text = match maps.pool {
                Some(_) => format!("0 <first id> {RANGE}\n"),
                None => rows.text(),
            };
            lines.push(line(if rows.through_helper {
                let words: Vec<&str> = text.split_whitespace().collect();
                format!("execve(\"{program}\", [\"<child>\", {}])", words.join(", "))
            } else {
                format!("write(\"/proc/<child>/{file}\", {})", quote(text.as_bytes()))
            }));
        }
        lines
    }

    /// The calls that map the ids of the mounts that the caller has cloned.
    fn mapping_lines(&self) -> impl Iterator<Item = Line> {
        self.trees.iter().filter(|tree| tree.recursive).map(|tree| {
            let (set, note) = match tree.ids {
                TreeIds::Same => ("{0, 0, MS_PRIVATE, 0}", None),
                _ => (
                    "{MOUNT_ATTR_IDMAP, 0, MS_PRIVATE, <user namespace>}",
                    Some("an id outside is the same id inside"),
                ),
            };
            Line {
                actor: Actor::Caller,
                step: Step::MountSource,
                call: format!("mount_setattr(<tree>, \"\", AT_EMPTY_PATH|AT_RECURSIVE, {set}, 32)"),
                note,
                filename: Some(tree.path.to_string_lossy().into_owned()),
            }
        })
    }
}

/// The clone of a mount, which the child attaches.
fn tree_lines(tree: &CallersTree) -> Vec<Line> {
    let (flags, note) = if tree.recursive {
        ("OPEN_TREE_CLONE|OPEN_TREE_CLOEXEC|AT_RECURSIVE", "the child may not reach it")
    } else {
        let note = "without the mounts below it, which no user namespace inside may leave out";
        ("OPEN_TREE_CLONE|OPEN_TREE_CLOEXEC", note)
    };
    let line = |call: String, note| Line {
        actor: Actor::Caller,
        step: tree.step(),
        call,
        note: Some(note),
        filename: Some(tree.path.to_string_lossy().into_owned()),
    };
    let path = quote(tree.path.to_bytes());
    if tree.checked {
        let how = "{O_PATH|O_CLOEXEC, 0, RESOLVE_NO_SYMLINKS}, 24";
        return vec![
            line(format!("openat2(AT_FDCWD, {path}, {how}) = <source>"), "no link leads elsewhere"),
            line(format!("open_tree(<source>, \"\", AT_EMPTY_PATH|{flags}) = <tree>"), note),
        ];
    }
    vec![line(format!("open_tree(AT_FDCWD, {path}, {flags}) = <tree>"), note)]
}

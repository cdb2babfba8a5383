//! What a profile's view lists, and what else a container sees of the host.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::links::readable_by_all;
use super::looks::{Entry, Looks};
use super::shown::{Directory, Shown, path_of};
use super::{CallersTree, HostContext};
use crate::host::accounts::{self, NamedIds};
use crate::host::hosts::own_hosts_file;
use crate::host::settings::settings;
use crate::spec::profile::FileSystemView;
use crate::spec::{CommandSpec, Mount, ShownPath, Spec};

/// Places with file systems of the container's own.
const KERNEL_PLACES: [&str; 3] = ["/dev", "/proc", "/sys"];

/// The files of accounts.
const ACCOUNTS: [(&str, accounts::MakeUp); 2] =
    [("/etc/passwd", accounts::passwd), ("/etc/group", accounts::group)];

impl Directory {
    /// What the container sees of the host.
    ///
    /// Paths that the profile does not list may be the caller's own: for a container with other ids they are added to
    /// `trees`.
    pub(super) fn of(
        spec: &Spec,
        view: &'static FileSystemView,
        context: &HostContext<'_>,
        trees: &mut Vec<CallersTree>,
    ) -> Self {
        let mut root = Self::of_host(view);
        for home in context.homes {
            root.make_writable(path_of(home));
        }
        for (path, content) in own_files(spec, context) {
            root.set_file(path, content);
        }
        let mut host = Looks::default();
        let private =
            if spec.shown.is_empty() { Vec::new() } else { private_places(view, context) };
        for ShownPath { path, target } in &spec.shown {
            let Some(target) = target.clone().or_else(|| fs::canonicalize(path).ok()) else {
                continue;
            };
            let is_private = holds_any(path, &private) || holds_any(&target, &private);
            if !is_private && !is_mounted_over(spec, path) {
                let bound = root.show_checked(path, &target, &mut host);
                if let Some(bound) = bound.filter(|_| context.own_ids) {
                    root.clone_bound(&bound, trees);
                }
            }
        }
        root
    }

    /// What the view lists, the same in every container.
    fn of_host(view: &'static FileSystemView) -> Self {
        static LAST: Mutex<Option<Arc<Remembered>>> = Mutex::new(None);
        let user = nix::unistd::geteuid().as_raw();
        // A forked child may have inherited the lock from a thread that held it.
        let known = LAST.try_lock().ok().and_then(|known| known.clone());
        let is_right = |known: &Arc<Remembered>| {
            std::ptr::eq(known.view, view) && known.user == user && known.host.hold()
        };
        if let Some(known) = known.filter(is_right) {
            return known.root.clone();
        }
        let mut host = Looks::default();
        let root = Self::look_up(view, &mut host);
        if host.can_be_kept()
            && let Ok(mut known) = LAST.try_lock()
        {
            *known = Some(Arc::new(Remembered { view, user, host, root: root.clone() }));
        }
        root
    }

    fn look_up(view: &FileSystemView, host: &mut Looks) -> Self {
        let mut root = Self::default();
        for pattern in view.bound {
            for path in host.expand(pattern) {
                root.show_if(&path, host, |_, found| *found == Entry::Directory);
            }
        }
        for &(path, names) in view.replaced {
            root.replace(Path::new(path), names, host);
        }
        // The new /dev has its own /dev/shm.
        let in_dev = |path: &&&str| path.starts_with("/dev/");
        for path in view.private.iter().filter(|path| !in_dev(path)).chain(view.homes) {
            root.make_writable(Path::new(path));
        }
        for path in view.empty {
            root.insert(Path::new(path), Shown::Directory(Self::default()));
        }
        for pattern in view.copied {
            for path in host.expand(pattern) {
                root.copy(&path, host);
            }
        }
        let none = NamedIds::default();
        for (path, made_up) in ACCOUNTS {
            let known = host.content(Path::new(path)).unwrap_or_default();
            root.set_file(path, made_up(&known, &none));
        }
        root
    }

    /// Names the ids of a command in the files of accounts.
    pub(crate) fn name_ids(&mut self, command: &CommandSpec) {
        let ids = accounts::of_command(command);
        if ids.is_empty() {
            return;
        }
        for (path, made_up) in ACCOUNTS {
            let rows = made_up(&settings(path).unwrap_or_default(), &ids);
            if let Some(Shown::File(content)) = self.entry(Path::new(path)) {
                *content = accounts::with_rows(content, &rows).into();
            }
        }
    }
}

/// What a view shows of the host, and the answers that it was made from.
struct Remembered {
    view: &'static FileSystemView,
    /// The effective user id: another user may not see the same.
    user: u32,
    host: Looks,
    root: Directory,
}

/// The files of this container's own, and their content.
fn own_files(spec: &Spec, context: &HostContext<'_>) -> Vec<(&'static str, Vec<u8>)> {
    let shared = spec.shares_network();
    let mut hostname = context.hostname.to_vec();
    hostname.push(b'\n');
    let services: &[u8] = if shared { b"files dns" } else { b"files" };
    let switch = [b"passwd: files\ngroup: files\nshadow: files\nhosts: ", services, b"\n"].concat();
    let mut files = vec![
        ("/etc/nsswitch.conf", switch),
        ("/etc/hosts", own_hosts_file(spec, context.hostname, shared)),
        ("/etc/hostname", hostname),
    ];
    let ids = accounts::of_spec(spec);
    if !ids.is_empty() {
        let made_up = |(path, made_up): (_, accounts::MakeUp)| {
            (path, made_up(&settings(path).unwrap_or_default(), &ids))
        };
        files.extend(ACCOUNTS.map(made_up));
    }
    // It may be a link into /run, where the container sees nothing of the host.
    if shared
        && let Ok(resolver) = fs::canonicalize("/etc/resolv.conf")
        && let Some(content) = readable_by_all(&resolver, Path::new("/"))
    {
        files.push(("/etc/resolv.conf", content));
    }
    files
}

/// Whether a mount of the specification covers a path, or the path is in a file system of the container's own.
fn is_mounted_over(spec: &Spec, path: &Path) -> bool {
    let covers = |mount: &Mount| path.starts_with(path_of(&mount.target));
    spec.mounts.iter().any(covers) || KERNEL_PLACES.iter().any(|place| path.starts_with(place))
}

/// The homes and private directories, as spelt and as resolved.
fn private_places(view: &FileSystemView, context: &HostContext<'_>) -> Vec<PathBuf> {
    let listed = view.private.iter().chain(view.homes).map(Path::new);
    let spelt = context.homes.iter().map(path_of).chain(listed);
    spelt.flat_map(|path| [Some(path.to_owned()), fs::canonicalize(path).ok()]).flatten().collect()
}

/// Whether a path is one of these places or above one.
fn holds_any(path: &Path, places: &[PathBuf]) -> bool {
    places.iter().any(|place| place.starts_with(path))
}

//! A property of any root and any path in it: the view resolves the path as the kernel does, and never leaves the
//! root.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::Errno;

use super::view::{Backing, Spot, View};

#[derive(Clone, Debug)]
enum TreeEntry {
    Directory,
    File,
    Link(String),
}

fn arb_name() -> impl Strategy<Value = &'static str> {
    select(vec!["a", "b", "c", "d"])
}

fn arb_path() -> impl Strategy<Value = String> {
    let name = prop_oneof![3 => arb_name(), 1 => Just("..")];
    vec(name, 1..6).prop_map(|names| names.join("/"))
}

fn arb_link() -> impl Strategy<Value = String> {
    // Some of them would lead far outside.
    let outward = select(vec!["", "/", "../../../../../../../../", "/../../../"]);
    (outward, arb_path()).prop_map(|(start, path)| format!("{start}{path}"))
}

fn arb_entry() -> impl Strategy<Value = TreeEntry> {
    prop_oneof![
        3 => Just(TreeEntry::Directory),
        1 => Just(TreeEntry::File),
        3 => arb_link().prop_map(TreeEntry::Link),
    ]
}

/// Entries of a tree, and their paths. An entry whose path is taken is left out.
fn arb_tree() -> impl Strategy<Value = Vec<(String, TreeEntry)>> {
    let at = vec(arb_name(), 1..4).prop_map(|names| names.join("/"));
    vec((at, arb_entry()), 0..20)
}

/// A root that exists for one case.
struct TreeOnDisk(PathBuf);

impl TreeOnDisk {
    fn new(tree: &[(String, TreeEntry)]) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("minidocker-resolver-{}-{number}", std::process::id());
        let top = fs::canonicalize(std::env::temp_dir()).expect("a temporary directory").join(name);
        fs::create_dir(&top).expect("a new directory");
        for (at, entry) in tree {
            let path = top.join(at);
            // Each parent must be a directory, not a link of the tree.
            let mut way = top.clone();
            let fits = Path::new(at).parent().is_none_or(|parents| {
                parents.iter().all(|name| {
                    way.push(name);
                    let _ = fs::create_dir(&way);
                    fs::symlink_metadata(&way).is_ok_and(|found| found.is_dir())
                })
            });
            if !fits || fs::symlink_metadata(&path).is_ok() {
                continue;
            }
            match entry {
                TreeEntry::Directory => fs::create_dir(&path),
                TreeEntry::File => fs::write(&path, ""),
                TreeEntry::Link(to) => symlink(to, &path),
            }
            .expect("a free path");
        }
        Self(top)
    }

    fn locate(&self, path: &str) -> std::io::Result<Spot> {
        View::new(Backing::Host(self.0.clone())).locate(path.split('/').map(str::as_bytes))
    }

    /// Resolves the path by the kernel: the inode, and whether it is a directory.
    fn kernel(&self, path: &str) -> Result<(u64, bool), Errno> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let top = openat2(CWD, &self.0, flags, Mode::empty(), ResolveFlags::empty())?;
        let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let found = loop {
            match openat2(&top, path, flags, Mode::empty(), how) {
                // The system renamed or mounted something while the kernel resolved `..`: openat2(2).
                Err(Errno::AGAIN) => {}
                found => break fstat(found?)?,
            }
        };
        Ok((found.st_ino, found.st_mode & libc::S_IFMT == libc::S_IFDIR))
    }
}

impl Drop for TreeOnDisk {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

proptest! {
    #![proptest_config(crate::property_cases(200))]

    #[test]
    fn a_path_leads_where_the_kernel_goes_and_never_outside(tree in arb_tree(), path in arb_path()) {
        let root = TreeOnDisk::new(&tree);
        let located = root.locate(&path);
        if let Ok(spot) = &located {
            for place in [&*spot.path, spot.existing()] {
                prop_assert!(place.is_absolute());
                prop_assert!(!place.iter().any(|name| name == ".."));
            }
            // The existing part has no link in it, so joining it to the root stays inside.
            let outside = root.0.join(spot.existing().strip_prefix("/").expect("absolute"));
            prop_assert_eq!(fs::canonicalize(&outside).expect("it is there"), outside);
        }
        match (root.kernel(&path), located) {
            (Ok((inode, directory)), Ok(spot)) => {
                prop_assert!(!spot.is_missing());
                prop_assert_eq!(spot.directory, Some(directory));
                let outside = root.0.join(spot.path.strip_prefix("/").expect("absolute"));
                prop_assert_eq!(fs::symlink_metadata(outside).expect("it is there").ino(), inode);
            }
            // The view assumes that missing directories will be made, and resolves `..` in them.
            (Err(Errno::NOENT), _) => {}
            (Err(errno), Err(error)) => {
                prop_assert_eq!(error.raw_os_error(), Some(errno.raw_os_error()));
            }
            (kernel, located) => prop_assert!(false, "{kernel:?} is not {located:?}"),
        }
    }
}

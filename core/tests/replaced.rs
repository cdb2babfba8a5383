//! Another process may replace what a command is made of after it was looked at, while the container starts.

use std::error::Error;
use std::ffi::CString;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use minidocker_core::error::LaunchError;
use minidocker_core::launch::LaunchParams;
use minidocker_core::plan::Plan;
use minidocker_core::process::Process;
use minidocker_core::spec::profile::Profile;
use minidocker_core::spec::{CommandSpec, IdMap, IdRow, Overlay, Payload, ShownPath, Spec};
use minidocker_core::step::Step;
use nix::unistd::{getegid, geteuid};

type Outcome = Result<(), Box<dyn Error>>;

/// A directory with a virtual environment that has a script, and with another directory, for one test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> std::io::Result<Self> {
        let top = fs::canonicalize(std::env::temp_dir())?
            .join(format!("minidocker-replaced-{name}-{}", std::process::id()));
        let scratch = Self(top);
        fs::create_dir_all(scratch.environment().join("bin"))?;
        fs::create_dir_all(scratch.victim().join("bin"))?;
        fs::write(scratch.environment().join("pyvenv.cfg"), "home = /usr/bin\n")?;
        for directory in [scratch.environment(), scratch.victim()] {
            let program = directory.join("bin/program");
            fs::write(&program, "#!/bin/sh\n")?;
            fs::set_permissions(&program, Permissions::from_mode(0o755))?;
        }
        Ok(scratch)
    }

    fn environment(&self) -> PathBuf {
        self.0.join("environment")
    }

    fn victim(&self) -> PathBuf {
        self.0.join("victim")
    }

    /// Replaces the environment by a link to the other directory.
    fn replace(&self) -> std::io::Result<()> {
        fs::rename(self.environment(), self.0.join("away"))?;
        symlink(self.victim(), self.environment())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Specifications with which the caller opens what is shown, the child does, and an overlay covers it.
fn specs() -> [(&'static str, Spec); 4] {
    let mut own = Spec::default();
    own.confine.profile = Profile::Untrusted;
    let row = |outside| IdMap::Rows(vec![IdRow { inside: 0, outside, count: 1 }]);
    let (uid_map, gid_map) = (row(geteuid().as_raw()), row(getegid().as_raw()));
    let kept = Spec { uid_map, gid_map, ..own.clone() };
    let over = |spec: &Spec| Spec { overlay: Overlay::Discard, ..spec.clone() };
    [
        ("own ids, overlay", over(&own)),
        ("the caller's ids, overlay", over(&kept)),
        ("own ids", own),
        ("the caller's ids", kept),
    ]
}

fn launch(plan: &Plan) -> Result<Process, LaunchError> {
    Process::launch(plan, None, LaunchParams::default())
}

fn command(program: &Path) -> Result<CommandSpec, Box<dyn Error>> {
    let program = CString::new(program.as_os_str().as_bytes())?;
    Ok(CommandSpec::new(program.clone(), vec![program]))
}

#[test]
fn a_link_in_place_of_what_a_command_is_made_of_ends_the_launch() -> Outcome {
    for (name, spec) in specs() {
        let scratch = Scratch::new(&name.replace([' ', ',', '\''], "-"))?;
        let command = command(&scratch.environment().join("bin/program"))?;
        let (plan, _) = Plan::gather(&spec, Payload::Command(&command), None)?;
        assert!(launch(&plan)?.wait()?.success(), "{name}");
        scratch.replace()?;
        let LaunchError::Spawn(error) = launch(&plan).expect_err(name) else { panic!("{name}") };
        assert_eq!((error.step, error.errno), (Step::MakeRoot, libc::ELOOP), "{name}");
    }
    Ok(())
}

#[test]
fn a_path_that_leads_elsewhere_than_when_it_was_checked_is_not_shown() -> Outcome {
    for (name, spec) in specs() {
        let scratch = Scratch::new(&format!("moved-{}", name.replace([' ', ',', '\''], "-")))?;
        let (path, target) = (scratch.environment(), Some(scratch.environment()));
        scratch.replace()?;
        let spec = Spec { shown: vec![ShownPath { path, target }], ..spec };
        let mut command = command(Path::new("/bin/ls"))?;
        command.argv.push(CString::new(scratch.victim().as_os_str().as_bytes())?);
        command.argv.push(CString::new(scratch.environment().as_os_str().as_bytes())?);
        let (plan, _) = Plan::gather(&spec, Payload::Command(&command), None)?;
        assert!(!launch(&plan)?.wait()?.success(), "{name}");
    }
    Ok(())
}

//! A builder of commands in containers, like [`std::process::Command`].

mod running;
mod stdio;

pub use running::Child;
pub use stdio::Stdio;

use std::collections::BTreeMap;
use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output};

use crate::error::{LaunchError, PlanError, SpecError};
use crate::host::target::Target;
use crate::launch::LaunchParams;
use crate::plan::Plan;
use crate::process::Process;
use crate::spec::namespaces::NamespaceOptions;
use running::known_status;
use stdio::Streams;

use crate::spec::{CommandSpec, Environment, Mount, Payload, Spec, WorkingDirectory};

/// A builder of containers that run one command, like [`std::process::Command`].
///
/// The command is PID 1 of new namespaces, has the files of the host, a new network with loopback up,
/// and ends with the calling process. A [`Spec`] changes that.
///
/// ```
/// use minidocker_core::Command;
///
/// let output = Command::new("hostname").hostname("mycontainer").output()?;
/// assert_eq!(output.stdout, b"mycontainer\n");
/// # Ok::<(), minidocker_core::CommandError>(())
/// ```
#[derive(Debug)]
pub struct Command {
    spec: Spec,
    program: OsString,
    args: Vec<OsString>,
    /// Changes of the environment: a new value, or `None` to remove the variable.
    env: BTreeMap<OsString, Option<OsString>>,
    inherits_env: bool,
    directory: Option<PathBuf>,
    /// The user id and the group id inside.
    ids: [Option<u32>; 2],
    stdio: [Option<Stdio>; 3],
}

/// The failure to start a [`Command`], or to wait for it.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The specification is wrong on any machine.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The kernel refused a step of the launch.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// A pipe or a wait failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<PlanError> for CommandError {
    fn from(error: PlanError) -> Self {
        match error {
            PlanError::Spec(error) => Self::Spec(error),
            PlanError::Spawn(error) => Self::Launch(error.into()),
        }
    }
}

impl Command {
    /// A command without arguments. A name without a slash is looked up inside, in the directories of the
    /// command's `PATH`.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            spec: Spec::default(),
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            env: BTreeMap::new(),
            inherits_env: true,
            directory: None,
            ids: [None; 2],
            stdio: [None, None, None],
        }
    }

    /// Appends an argument.
    pub fn arg(&mut self, arg: impl AsRef<OsStr>) -> &mut Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Appends arguments.
    pub fn args(&mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> &mut Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable of the command's environment, which starts as a copy of the caller's. With the profile
    /// "untrusted" it starts with a few of the caller's variables: see
    /// [`inherited_variables`](crate::spec::profile::Confinement::inherited_variables).
    pub fn env(&mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Self {
        self.env.insert(name.as_ref().to_owned(), Some(value.as_ref().to_owned()));
        self
    }

    /// Removes a variable of the command's environment.
    pub fn env_remove(&mut self, name: impl AsRef<OsStr>) -> &mut Self {
        self.env.insert(name.as_ref().to_owned(), None);
        self
    }

    /// Removes every variable, including those set before.
    pub fn env_clear(&mut self) -> &mut Self {
        self.env.clear();
        self.inherits_env = false;
        self
    }

    /// Sets the directory inside in which the command starts: by default the caller's, or `/` if that does
    /// not exist inside.
    pub fn current_dir(&mut self, directory: impl AsRef<Path>) -> &mut Self {
        self.directory = Some(directory.as_ref().to_owned());
        self
    }

    /// Sets the user id inside.
    pub fn uid(&mut self, id: u32) -> &mut Self {
        self.ids[0] = Some(id);
        self
    }

    /// Sets the group id inside.
    pub fn gid(&mut self, id: u32) -> &mut Self {
        self.ids[1] = Some(id);
        self
    }

    /// Sets standard input: by default inherited, and null in [`output`](Self::output).
    pub fn stdin(&mut self, stdio: impl Into<Stdio>) -> &mut Self {
        self.stdio[0] = Some(stdio.into());
        self
    }

    /// Sets standard output: by default inherited, and piped in [`output`](Self::output).
    pub fn stdout(&mut self, stdio: impl Into<Stdio>) -> &mut Self {
        self.stdio[1] = Some(stdio.into());
        self
    }

    /// Sets standard error: by default inherited, and piped in [`output`](Self::output).
    pub fn stderr(&mut self, stdio: impl Into<Stdio>) -> &mut Self {
        self.stdio[2] = Some(stdio.into());
        self
    }

    /// Replaces every isolation option, including those that the methods below set.
    ///
    /// ```
    /// use minidocker_core::Command;
    /// use minidocker_core::spec::Spec;
    ///
    /// let spec = Spec { read_only: true, init: true, ..Spec::default() };
    /// let status = Command::new("sh").args(["-c", "test $$ = 2"]).spec(spec).status()?;
    /// assert!(status.success(), "PID 1 is init");
    /// # Ok::<(), minidocker_core::CommandError>(())
    /// ```
    pub fn spec(&mut self, spec: Spec) -> &mut Self {
        self.spec = spec;
        self
    }

    /// Sets which namespaces are new.
    pub fn namespaces(&mut self, namespaces: NamespaceOptions) -> &mut Self {
        self.spec.namespaces = namespaces;
        self
    }

    /// Sets the host name inside.
    pub fn hostname(&mut self, name: impl AsRef<OsStr>) -> &mut Self {
        self.spec.hostname = Some(name.as_ref().as_bytes().to_vec());
        self
    }

    /// Appends a mount.
    pub fn mount(&mut self, mount: Mount) -> &mut Self {
        self.spec.mounts.push(mount);
        self
    }

    /// Makes the root read-only.
    pub fn read_only(&mut self, read_only: bool) -> &mut Self {
        self.spec.read_only = read_only;
        self
    }

    /// Returns the ordered list of system calls that [`spawn`](Self::spawn) would make, without making one.
    ///
    /// ```
    /// use minidocker_core::Command;
    ///
    /// for line in Command::new("true").hostname("mycontainer").plan()?.lines() {
    ///     println!("{line}");
    /// }
    /// # Ok::<(), minidocker_core::CommandError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`spawn`](Self::spawn).
    pub fn plan(&self) -> Result<Plan, CommandError> {
        let fd = |stdio: &Option<Stdio>| match stdio {
            Some(Stdio::Fd(fd)) => Some(fd.as_raw_fd()),
            _ => None,
        };
        let [stdin, stdout, stderr] = &self.stdio;
        let command = self.lower([fd(stdin), fd(stdout), fd(stderr)])?;
        Ok(self.plan_for(&command)?.0)
    }

    /// Starts the container. Returns once the command has been executed.
    ///
    /// # Errors
    ///
    /// [`SpecError`] if the specification is wrong on any machine, [`LaunchError`] if the kernel refused a step.
    /// After an error nothing of the container is left.
    pub fn spawn(&mut self) -> Result<Child, CommandError> {
        self.spawn_with(&[Stdio::Inherit, Stdio::Inherit, Stdio::Inherit])
    }

    /// Runs the command, and returns its status.
    ///
    /// # Errors
    ///
    /// As for [`spawn`](Self::spawn) and [`Child::wait`].
    pub fn status(&mut self) -> Result<ExitStatus, CommandError> {
        Ok(known_status(self.spawn()?.wait()?)?)
    }

    /// Runs the command, and returns its status and output.
    ///
    /// # Errors
    ///
    /// As for [`spawn`](Self::spawn) and [`Child::wait_with_output`].
    pub fn output(&mut self) -> Result<Output, CommandError> {
        let child = self.spawn_with(&[Stdio::Null, Stdio::Piped, Stdio::Piped])?;
        Ok(child.wait_with_output()?)
    }

    fn spawn_with(&mut self, defaults: &[Stdio; 3]) -> Result<Child, CommandError> {
        let [stdin, stdout, stderr] = &self.stdio;
        let [no_stdin, no_stdout, no_stderr] = defaults;
        let mut streams = Streams::default();
        let fds = [
            streams.input(stdin.as_ref().unwrap_or(no_stdin))?,
            streams.output(stdout.as_ref().unwrap_or(no_stdout), |streams| &mut streams.stdout)?,
            streams.output(stderr.as_ref().unwrap_or(no_stderr), |streams| &mut streams.stderr)?,
        ];
        let command = self.lower(fds)?;
        let (plan, target) = self.plan_for(&command)?;
        let process = Process::launch(&plan, target.as_ref(), LaunchParams::default())?;
        Ok(Child::new(process, streams))
    }

    fn plan_for(&self, command: &CommandSpec) -> Result<(Plan, Option<Target>), CommandError> {
        let payload = Payload::Command(command);
        Ok(Plan::gather(&self.spec, payload, None)?)
    }

    /// The command in the form that a plan takes, with these descriptors as standard streams.
    fn lower(&self, stdio: [Option<i32>; 3]) -> Result<CommandSpec, SpecError> {
        let words = [&self.program].into_iter().chain(&self.args);
        let argv = words.map(|word| text("args", word)).collect::<Result<Vec<_>, _>>()?;
        let mut command = CommandSpec::new(argv[0].clone(), argv);
        command.candidates = self.candidates()?;
        command.envp = self.environment()?;
        if let Some(directory) = &self.directory {
            let directory = text("current_dir", directory.as_os_str())?;
            command.working_directory = WorkingDirectory::Path(directory);
        }
        command.stdio = stdio;
        [command.user, command.group] = self.ids;
        Ok(command)
    }

    /// The paths at which to look for the program, as execvp(3) does.
    fn candidates(&self) -> Result<Vec<CString>, SpecError> {
        let program = text("program", &self.program)?;
        if self.program.as_bytes().contains(&b'/') {
            return Ok(vec![program]);
        }
        let path = match self.env.get(OsStr::new("PATH")) {
            Some(changed) => changed.clone(),
            None if self.inherits_env => env::var_os("PATH"),
            None => None,
        };
        env::split_paths(&path.unwrap_or_else(|| "/usr/bin:/bin".into()))
            .map(|directory| text("PATH", directory.join(&self.program).as_os_str()))
            .collect()
    }

    fn environment(&self) -> Result<Environment, SpecError> {
        if self.inherits_env && self.env.is_empty() {
            return Ok(Environment::of_caller());
        }
        let mut variables: BTreeMap<OsString, OsString> =
            if self.inherits_env { self.inherited() } else { BTreeMap::new() };
        for (name, value) in &self.env {
            match value {
                Some(value) => variables.insert(name.clone(), value.clone()),
                None => variables.remove(name),
            };
        }
        let line = |(name, value): (OsString, OsString)| {
            text("env", OsStr::from_bytes(&[name.as_bytes(), value.as_bytes()].join(&b'=')))
        };
        variables.into_iter().map(line).collect()
    }

    fn inherited(&self) -> BTreeMap<OsString, OsString> {
        let inherits = |(name, value): &(OsString, OsString)| {
            self.spec.inherits_variable(name.as_bytes(), value.as_bytes())
        };
        env::vars_os().filter(inherits).collect()
    }
}

fn text(option: &'static str, text: &OsStr) -> Result<CString, SpecError> {
    CString::new(text.as_bytes()).map_err(|_| SpecError::embedded_nul(option, text.as_bytes()))
}

//! `Command` behaves like `std::process::Command`, with the command in a container.

use std::error::Error;
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::unix::process::ExitStatusExt as _;
use std::thread;
use std::time::Duration;

use minidocker_core::error::LaunchError;
use minidocker_core::spec::profile::Profile;
use minidocker_core::spec::{Network, Spec};
use minidocker_core::step::Step;
use minidocker_core::{Command, CommandError, Stdio};

type Outcome = Result<(), Box<dyn Error>>;

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

#[test]
fn the_status_is_the_commands_own() -> Outcome {
    assert_eq!(shell("exit 7").status()?.code(), Some(7));
    let init = Spec { init: true, ..Spec::default() };
    assert_eq!(shell("kill -9 $$").spec(init).status()?.signal(), Some(9));
    Ok(())
}

#[test]
fn a_command_is_pid_1_of_a_container_with_its_hostname() -> Outcome {
    let output = shell("echo $$; hostname").hostname("lab").output()?;
    assert_eq!(output.stdout, b"1\nlab\n");
    Ok(())
}

#[test]
fn long_output_on_both_streams_is_collected_whole() -> Outcome {
    let script = "head -c 300000 /dev/zero; head -c 300000 /dev/zero >&2";
    let output = shell(script).output()?;
    assert_eq!((output.stdout.len(), output.stderr.len()), (300_000, 300_000));
    Ok(())
}

#[test]
fn the_environment_is_the_callers_with_the_changes() -> Outcome {
    let script = "echo $NAME-${CARGO_MANIFEST_DIR-gone}";
    let changed = shell(script).env("NAME", "value").env_remove("CARGO_MANIFEST_DIR").output()?;
    assert_eq!(changed.stdout, b"value-gone\n");
    let cleared = Command::new("/usr/bin/env").env_clear().env("ONE", "1").output()?;
    assert_eq!(cleared.stdout, b"ONE=1\n");
    Ok(())
}

#[test]
fn with_untrusted_the_changes_apply_to_the_inherited_variables() -> Outcome {
    let mut spec = Spec::default();
    spec.confine.profile = Profile::Untrusted;
    let script = "echo $NAME-${CARGO_MANIFEST_DIR-gone}-${PATH:+kept}";
    let unchanged = shell(script).spec(spec.clone()).output()?;
    assert_eq!(unchanged.stdout, b"-gone-kept\n");
    let changed = shell(script).spec(spec).env("NAME", "value").output()?;
    assert_eq!(changed.stdout, b"value-gone-kept\n");
    Ok(())
}

#[test]
fn a_command_starts_in_its_directory_as_its_user() -> Outcome {
    let output = shell("pwd; id -u; id -g").current_dir("/usr").output()?;
    assert_eq!(output.stdout, b"/usr\n0\n0\n");
    Ok(())
}

#[test]
fn a_stream_leads_to_a_file_or_nowhere() -> Outcome {
    let path = std::env::temp_dir().join(format!("minidocker-stream-{}", std::process::id()));
    let mut file = File::options().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    let mut command = shell("cat; echo written");
    assert!(command.stdin(Stdio::Null).stdout(file.try_clone()?).status()?.success());
    file.rewind()?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    assert_eq!(text, "written\n");
    Ok(())
}

#[test]
fn a_command_that_does_not_exist_says_which_step_failed() {
    let mut command = Command::new("no-such-program");
    let error =
        command.env("PATH", "/usr/bin:/bin").spawn().expect_err("the program does not exist");
    let CommandError::Launch(LaunchError::Spawn(error)) = error else { panic!("{error}") };
    assert_eq!((error.step, error.errno), (Step::Exec, libc::ENOENT));
}

#[test]
fn a_wrong_option_is_refused_before_the_launch() {
    let error = Command::new("true").hostname("").spawn().expect_err("a hostname is not empty");
    assert!(matches!(&error, CommandError::Spec(error) if error.option == "hostname"), "{error}");
    let error = Command::new("a\0b").spawn().expect_err("a name cannot contain a NUL");
    assert!(matches!(error, CommandError::Spec(_)), "{error}");
}

#[test]
fn sigterm_ends_pid_1_and_the_status_is_sigterm() -> Outcome {
    let mut child = Command::new("sleep").arg("60").spawn()?;
    child.signal(libc::SIGTERM)?;
    let exit = child.wait()?;
    assert_eq!(exit.status.and_then(|status| status.signal()), Some(libc::SIGTERM));
    assert_eq!(exit.killed_for, Some(libc::SIGTERM));
    child.signal(libc::SIGTERM)?;
    assert_eq!(child.wait()?, exit, "a second wait returns the same");
    Ok(())
}

#[test]
fn kill_ends_every_process_of_the_container() -> Outcome {
    let mut child = shell("sleep 60 & echo started; wait").stdout(Stdio::Piped).spawn()?;
    let mut pipe = child.stdout.take().ok_or("piped")?;
    let mut started = [0_u8; 8];
    pipe.read_exact(&mut started)?;
    child.kill()?;
    // The grandchild had the pipe open too.
    assert_eq!(pipe.read(&mut started)?, 0);
    assert!(!child.wait()?.success());
    Ok(())
}

#[test]
fn a_wait_ends_with_the_command_or_at_its_timeout() -> Outcome {
    let mut child = shell("read line").stdin(Stdio::Piped).spawn()?;
    assert!(child.try_wait()?.is_none());
    assert!(child.wait_timeout(Duration::from_millis(10))?.is_none());
    drop(child.stdin.take());
    let exit = child.wait_timeout(Duration::from_secs(60))?.ok_or("the command has not ended")?;
    assert_eq!(child.try_wait()?, Some(exit));
    assert!(exit.usage.is_some());
    Ok(())
}

#[test]
fn commands_of_several_threads_do_not_disturb_each_other() {
    thread::scope(|scope| {
        for number in 0..4_u8 {
            scope.spawn(move || {
                for _ in 0..10 {
                    let status = shell(&format!("exit {number}")).status().expect("it starts");
                    assert_eq!(status.code(), Some(i32::from(number)));
                }
            });
        }
    });
}

#[test]
fn a_plan_is_what_a_spawn_would_do() -> Outcome {
    let mut command = Command::new("true");
    let calls = |command: &Command| -> Result<String, CommandError> {
        let lines: Vec<_> = command.plan()?.lines().into_iter().map(|line| line.call).collect();
        Ok(lines.join("\n"))
    };
    assert!(calls(command.hostname("lab"))?.contains("sethostname(\"lab\", 3)"));
    let shared = Spec { network: Some(Network::Host), ..Spec::default() };
    assert!(!calls(command.spec(shared))?.contains("SIOCSIFFLAGS"));
    Ok(())
}

#[test]
fn a_command_that_is_looked_up_is_named_as_it_was_given() {
    for path in [None, Some("/nowhere"), Some("/nowhere:/usr/bin")] {
        let mut command = Command::new("no-such-command");
        if let Some(path) = path {
            command.env("PATH", path);
        }
        let Err(CommandError::Launch(LaunchError::Spawn(error))) = command.status() else {
            panic!("it started");
        };
        assert_eq!(error.filename.as_deref(), Some("no-such-command".as_ref()));
    }
    let Err(CommandError::Launch(LaunchError::Spawn(error))) = Command::new("/no/such").status()
    else {
        panic!("it started");
    };
    assert_eq!(error.filename.as_deref(), Some("/no/such".as_ref()));
}

#[test]
fn an_embedded_nul_is_shown_in_the_value_that_was_given() {
    let Err(CommandError::Spec(error)) = Command::new("no\0such").status() else {
        panic!("it started");
    };
    assert_eq!(error.to_string(), "args=\"no\\0such\": it contains a NUL character. Leave it out");
}

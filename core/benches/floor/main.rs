//! The floor of the benchmark: the system calls that a container costs, and nothing else.
//!
//! It makes the calls that `minidocker.run([program], hostname="bench")` makes, in the same order, with
//! no interpreter and no library around them, so that what minidocker adds can be told. `--explain`
//! prints them; compare that with `minidocker explain`. Steps can be left out one by one
//! (`--without sysfs`), which tells what each of them costs.

mod launch;
mod options;
mod plan;
mod raw;
mod root;
mod watchdog;

use std::io::{self, BufRead as _, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use launch::Launcher;
use options::{Options, USAGE};
use plan::Plan;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("--watchdog") {
        return report(watchdog::watch());
    }
    let mut options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("floor: {why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    if options.has("watchdog") {
        match watchdog::start() {
            Ok(socket) => options.watchdog = Some(socket),
            Err(why) => return report(Err(why)),
        }
    }
    let plan = Plan::new(&options);
    report(if options.explain {
        explain(&plan)
    } else if options.serve {
        serve(&plan, options.has("pidfd"))
    } else {
        summarise(&plan, &options)
    })
}

fn report(done: io::Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("floor: {why}");
            ExitCode::FAILURE
        }
    }
}

fn explain(plan: &Plan) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let wait = if plan.vfork { "CLONE_VFORK" } else { "CLONE_CHILD_CLEARTID" };
    writeln!(out, "{:<10} clone(CLONE_VM|{wait}|SIGCHLD|{:#x})", "clone", plan.flags)?;
    for action in &plan.actions {
        writeln!(out, "{action}")?;
    }
    writeln!(out, "{:<10} waitpid(child)", "wait")
}

/// Answers `RUN n` and `THREADS t n`, a line for a line, until its input ends.
fn serve(plan: &Plan, pidfd: bool) -> io::Result<()> {
    let mut launcher = Launcher::new(plan, pidfd);
    for line in io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |word: &str| {
            word.parse::<usize>()
                .map_err(|_| io::Error::other(format!("{word:?} is no number of runs")))
        };
        let answer = match words.as_slice() {
            ["RUN", count] => {
                let mut times = Vec::new();
                for _ in 0..number(count)? {
                    times.push(launcher.run()?.as_nanos().to_string());
                }
                times.join(" ")
            }
            ["THREADS", threads, count] => {
                threaded(plan, pidfd, number(threads)?, number(count)?)?.as_nanos().to_string()
            }
            _ => return Err(io::Error::other(format!("no such request: {line:?}"))),
        };
        writeln!(io::stdout().lock(), "{answer}")?;
    }
    Ok(())
}

fn threaded(plan: &Plan, pidfd: bool, threads: usize, count: usize) -> io::Result<Duration> {
    let start = Instant::now();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut launcher = Launcher::new(plan, pidfd);
                    (0..count).try_for_each(|_| launcher.run().map(drop))
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| {
            worker.join().map_err(|_| io::Error::other("a thread of the benchmark panicked"))?
        })
    })?;
    Ok(start.elapsed())
}

fn summarise(plan: &Plan, options: &Options) -> io::Result<()> {
    let mut launcher = Launcher::new(plan, options.has("pidfd"));
    let mut times = (0..options.iterations.max(1))
        .map(|_| launcher.run())
        .collect::<io::Result<Vec<Duration>>>()?;
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_micros();
    writeln!(io::stdout().lock(), "median {} us, 95 % within {} us", at(50), at(95))
}

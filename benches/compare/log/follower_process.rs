//! Followers in a process of their own, which does as little as it can with what arrives: the machine is the daemon's.
//!
//! It is a mode of the benchmark's own program. It says `ready` once all followers are connected, then a report when all
//! events have arrived or no more arrive, and stays connected until its standard input ends.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::event::{Timespec, epoll};
use rustix::io::{Errno, read};

use super::event::Finders;
use super::follower::Follower;
use super::http;
use super::tally::{Report, Tally};
use crate::contender::Contender;
use crate::processes::{self, Process};

/// The first argument that asks for this mode; the kind, the number of followers and of events, and what the kind needs
/// follow.
pub const MODE: &str = "follow-a-log";
const SERVER_SENT_EVENTS: &str = "server-sent-events";
const LOGTAIL: &str = "logtail";
const PIPE: &str = "pipe";
/// The environment variable with the token for the admin API.
const TOKEN: &str = "TOKEN";
/// The program whose log supervisord streams.
pub const PROGRAM: &str = "events";

const READY: &str = "ready";
/// How many followers are looked after in one go.
const MAX_READY: usize = 1024;
/// After this time without an event no more are expected.
const QUIET: Duration = Duration::from_secs(5);
/// The first one may take longer, and an overloaded server may need this long for all.
const LIMIT: Duration = Duration::from_mins(1);
/// An event that arrives twice does so within this time.
const LINGER: Duration = Duration::from_millis(200);
const READ: usize = 64 * 1024;
/// Stands for standard input where followers have numbers.
const STDIN: u64 = u64::MAX;

/// Where a crowd's log comes from.
pub enum Source<'a> {
    /// The daemon's stream of events.
    ServerSentEvents { port: u16, token: &'a str },
    /// supervisord's stream of a program's log.
    Logtail { port: u16 },
    /// The output of a program, for one follower.
    Pipe(Vec<OsString>),
}

/// A crowd that is connected. Dropped, it is ended.
pub struct Crowd {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Crowd {
    /// Starts it as one of the contender's processes, and waits until all are connected.
    pub fn connect(
        contender: &Contender,
        source: &Source<'_>,
        followers: usize,
        events: usize,
    ) -> Result<Self> {
        let mut arguments: Vec<OsString> = vec![std::env::current_exe()?.into(), MODE.into()];
        let (kind, rest, token) = match source {
            Source::ServerSentEvents { port, token } => {
                let port = vec![port.to_string().into()];
                (SERVER_SENT_EVENTS, port, *token)
            }
            Source::Logtail { port } => (LOGTAIL, vec![port.to_string().into()], ""),
            Source::Pipe(command) => (PIPE, command.clone(), ""),
        };
        arguments.push(kind.into());
        arguments.extend([followers, events].map(|number| number.to_string().into()));
        arguments.extend(rest);
        let mut child = contender
            .command(&arguments)?
            .env(TOKEN, token)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("no pipe")?;
        let mut crowd = Self {
            child,
            stdin,
            stdout: BufReader::new(stdout),
        };
        let line = crowd.line().with_context(|| contender.said())?;
        ensure!(line == READY, "the followers said `{line}`");
        Ok(crowd)
    }

    /// Waits until all events have arrived. The followers stay connected.
    pub fn report(&mut self) -> Result<Report> {
        let report: Report = serde_json::from_str(&self.line()?)?;
        match report.problem {
            Some(problem) => bail!(problem),
            None => Ok(report),
        }
    }

    /// How long it has run.
    pub fn processor_seconds(&self) -> Result<f64> {
        let process = Process::of_child(&self.child)?;
        processes::processor_seconds(&process.proc())
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        ensure!(!line.is_empty(), "the followers ended early");
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // One that follows a program's output ends that as well, which takes no time.
        let _ = self.child.wait();
    }
}

/// What the process of the followers does.
pub fn run(arguments: &[String]) -> Result<()> {
    let [kind, followers, events, rest @ ..] = arguments else {
        bail!("a kind, the number of followers and the number of events are needed");
    };
    let (followers, events) = (followers.parse()?, events.parse()?);
    let mut program = Ended(None);
    let mut held = Held {
        epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
        followers: Vec::new(),
        finders: Finders::new(),
        tally: Tally::new(followers, events),
        buffer: vec![0; READ],
    };
    for _ in 0..followers {
        match (kind.as_str(), rest) {
            (SERVER_SENT_EVENTS, [port]) => {
                let token = std::env::var(TOKEN)?;
                held.connect("/admin/logs/stream?lines=0", port.parse()?, Some(&token))?;
            }
            (LOGTAIL, [port]) => {
                held.connect(&format!("/logtail/{PROGRAM}"), port.parse()?, None)?;
            }
            (PIPE, [command, arguments @ ..]) => {
                let mut child = Command::new(command)
                    .args(arguments)
                    .stdin(Stdio::null())
                    .stdout(Stdio::piped())
                    .spawn()?;
                let stdout = child.stdout.take().context("no pipe")?;
                program = Ended(Some(child));
                held.add(stdout.into(), Follower::of_pipe())?;
            }
            _ => bail!("the followers have no place to follow"),
        }
    }
    held.follow()?;
    drop(program);
    Ok(())
}

/// A program that ends with the crowd.
struct Ended(Option<Child>);

impl Drop for Ended {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

struct Held {
    epoll: OwnedFd,
    followers: Vec<(OwnedFd, Follower)>,
    finders: Finders,
    tally: Tally,
    buffer: Vec<u8>,
}

impl Held {
    fn connect(&mut self, path: &str, port: u16, token: Option<&str>) -> Result<()> {
        let mut stream = http::connect(port)?;
        let request = http::request("GET", path, port, token);
        stream.write_all(format!("{request}\r\n").as_bytes())?;
        self.add(stream.into(), Follower::over_http())
    }

    /// Waits until it is connected: one after the other, so that no queue of connections overflows.
    fn add(&mut self, fd: OwnedFd, mut follower: Follower) -> Result<()> {
        while !follower.has_begun() {
            let bytes = read(&fd, &mut self.buffer)?;
            ensure!(bytes > 0, "a follower was refused");
            follower.take(&self.buffer[..bytes], &self.finders, &mut self.tally)?;
        }
        let number = epoll::EventData::new_u64(self.followers.len() as u64);
        epoll::add(&self.epoll, &fd, number, epoll::EventFlags::IN)?;
        self.followers.push((fd, follower));
        // Each connection is a line of the log, which those before it follow.
        self.read_ready(Duration::ZERO).map(|_| ())
    }

    /// Reads what has arrived, for which it waits at most that long. Whether there was anything.
    fn read_ready(&mut self, patience: Duration) -> Result<bool> {
        let mut ready = Vec::with_capacity(MAX_READY);
        match epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut ready),
            Some(&Timespec::try_from(patience)?),
        ) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        for event in &ready {
            let number = event.data.u64();
            ensure!(number != STDIN, "the followers were ended early");
            let (fd, follower) = &mut self.followers[usize::try_from(number)?];
            let bytes = read(&*fd, &mut self.buffer)?;
            ensure!(bytes > 0, "a follower was disconnected");
            follower.take(&self.buffer[..bytes], &self.finders, &mut self.tally)?;
        }
        Ok(!ready.is_empty())
    }

    fn follow(mut self) -> Result<()> {
        let begun = Instant::now();
        while self.read_ready(LINGER)? {
            ensure!(begun.elapsed() < LIMIT, "the followers never get to rest");
        }
        let stdin = epoll::EventData::new_u64(STDIN);
        epoll::add(&self.epoll, std::io::stdin(), stdin, epoll::EventFlags::IN)?;
        say(READY)?;
        let outcome = self.receive();
        let tally = std::mem::replace(&mut self.tally, Tally::new(0, 0));
        let report = tally.report(outcome.err().map(|error| format!("{error:#}")));
        say(&serde_json::to_string(&report)?)?;
        // Connected until the end, because memory is measured meanwhile.
        let mut rest = String::new();
        std::io::stdin().read_line(&mut rest)?;
        Ok(())
    }

    /// Until all events are there, or no more come.
    fn receive(&mut self) -> Result<()> {
        let begun = Instant::now();
        let mut progress: Option<Instant> = None;
        while begun.elapsed() < LIMIT {
            let patience = if self.tally.is_complete() {
                LINGER
            } else {
                QUIET
            };
            if progress.is_some_and(|progress| progress.elapsed() >= patience) {
                break;
            }
            let before = self.tally.received();
            self.read_ready(patience)?;
            if self.tally.received() > before {
                progress = Some(Instant::now());
            }
        }
        Ok(())
    }
}

fn say(line: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()?;
    Ok(())
}

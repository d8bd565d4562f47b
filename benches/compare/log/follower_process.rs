//! Followers in a process of their own. It does little work, to leave the machine to the daemon.
//!
//! A mode of the benchmark's program. It prints `ready` once all followers are connected, then a
//! report when all events have arrived or no more arrive. It stays connected until its standard
//! input ends.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::event::{Timespec, epoll};
use rustix::io::{Errno, read};

use super::event::EventFinder;
use super::follower::Follower;
use super::http;
use super::output::print_line;
use super::tally::{LatencyReport, LatencyTally};
use crate::contender::Contender;
use crate::processes::{self, Process};

/// The first argument of this mode. The kind, the numbers of followers and events, and the
/// arguments of the kind follow.
pub const MODE: &str = "follow-a-log";
const SERVER_SENT_EVENTS: &str = "server-sent-events";
const LOGTAIL: &str = "logtail";
const PIPE: &str = "pipe";
/// The environment variable with the token for the admin API.
const TOKEN_VARIABLE: &str = "TOKEN";
/// The program whose log supervisord and pm2 keep.
pub const SUPERVISED_PROGRAM: &str = "events";

const READY: &str = "ready";
/// Followers that are handled after one wait.
const MAX_READY: usize = 1024;
/// No more events are expected after this time without one.
const QUIET_TIME: Duration = Duration::from_secs(5);
/// Limit for all events, which an overloaded server may need.
const TIMEOUT: Duration = Duration::from_mins(1);
/// A duplicate of an event arrives within this time.
const LINGER_TIME: Duration = Duration::from_millis(200);
const BUFFER_SIZE: usize = 64 * 1024;
/// The epoll data of standard input. Followers have their index.
const STDIN_TOKEN: u64 = u64::MAX;

/// Where the followers get the log from.
pub enum LogSource<'a> {
    /// The daemon's event stream.
    ServerSentEvents { port: u16, token: &'a str },
    /// supervisord's stream of the log of a program.
    Logtail { port: u16 },
    /// The output of a command, for one follower.
    Pipe(Vec<OsString>),
}

/// A process of connected followers. It is stopped on drop.
pub struct FollowerProcess {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl FollowerProcess {
    /// Starts it as one of the contender's processes. Waits until all followers are connected.
    pub fn connect(
        contender: &Contender,
        source: &LogSource<'_>,
        followers: usize,
        events: usize,
    ) -> Result<Self> {
        let mut arguments: Vec<OsString> = vec![std::env::current_exe()?.into(), MODE.into()];
        let (kind, rest, token) = match source {
            LogSource::ServerSentEvents { port, token } => {
                let port = vec![port.to_string().into()];
                (SERVER_SENT_EVENTS, port, *token)
            }
            LogSource::Logtail { port } => (LOGTAIL, vec![port.to_string().into()], ""),
            LogSource::Pipe(command) => (PIPE, command.clone(), ""),
        };
        arguments.push(kind.into());
        arguments.extend([followers, events].map(|number| number.to_string().into()));
        arguments.extend(rest);
        let mut child = contender
            .command(&arguments)?
            .env(TOKEN_VARIABLE, token)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("no pipe")?;
        let mut process = Self {
            child,
            stdin,
            stdout: BufReader::new(stdout),
        };
        let line = process
            .read_line()
            .with_context(|| contender.output_tail())?;
        ensure!(line == READY, "the followers said `{line}`");
        Ok(process)
    }

    /// Waits until all events have arrived. The followers stay connected.
    pub fn report(&mut self) -> Result<LatencyReport> {
        let report: LatencyReport = serde_json::from_str(&self.read_line()?)?;
        match report.problem {
            Some(problem) => bail!(problem),
            None => Ok(report),
        }
    }

    /// CPU time of this process.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let process = Process::from_child(&self.child)?;
        processes::cpu_seconds(&process.proc_directory())
    }

    fn read_line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        ensure!(!line.is_empty(), "the followers ended early");
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for FollowerProcess {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // It also kills the command that it follows, which takes no time.
        let _ = self.child.wait();
    }
}

/// Runs this mode.
pub fn run(arguments: &[String]) -> Result<()> {
    let [kind, count, events, rest @ ..] = arguments else {
        bail!("a kind, the number of followers and the number of events are needed");
    };
    let (count, events) = (count.parse()?, events.parse()?);
    let mut command = KillOnDrop(None);
    let mut followers = Followers {
        epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
        connections: Vec::new(),
        finders: EventFinder::new(),
        tally: LatencyTally::new(count, events),
        buffer: vec![0; BUFFER_SIZE],
    };
    for _ in 0..count {
        match (kind.as_str(), rest) {
            (SERVER_SENT_EVENTS, [port]) => {
                let token = std::env::var(TOKEN_VARIABLE)?;
                followers.connect("/admin/logs/stream?lines=0", port.parse()?, Some(&token))?;
            }
            (LOGTAIL, [port]) => {
                followers.connect(
                    &format!("/logtail/{SUPERVISED_PROGRAM}"),
                    port.parse()?,
                    None,
                )?;
            }
            (PIPE, [program, arguments @ ..]) => {
                let mut child = Command::new(program)
                    .args(arguments)
                    .stdin(Stdio::null())
                    .stdout(Stdio::piped())
                    .spawn()?;
                let stdout = child.stdout.take().context("no pipe")?;
                command = KillOnDrop(Some(child));
                followers.add(stdout.into(), Follower::pipe())?;
            }
            _ => bail!("the followers have no place to follow"),
        }
    }
    followers.run()?;
    drop(command);
    Ok(())
}

/// A child that is killed on drop.
struct KillOnDrop(Option<Child>);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

struct Followers {
    epoll: OwnedFd,
    connections: Vec<(OwnedFd, Follower)>,
    finders: EventFinder,
    tally: LatencyTally,
    buffer: Vec<u8>,
}

impl Followers {
    fn connect(&mut self, path: &str, port: u16, token: Option<&str>) -> Result<()> {
        let mut stream = http::connect(port)?;
        let request = http::request_headers("GET", path, port, token);
        stream.write_all(format!("{request}\r\n").as_bytes())?;
        self.add(stream.into(), Follower::http())
    }

    /// Waits until a follower is connected. They connect one by one, so that no backlog overflows.
    fn add(&mut self, fd: OwnedFd, mut follower: Follower) -> Result<()> {
        while !follower.has_received_data() {
            let bytes = read(&fd, &mut self.buffer)?;
            ensure!(bytes > 0, "a follower was refused");
            follower.receive(&self.buffer[..bytes], &self.finders, &mut self.tally)?;
        }
        let number = epoll::EventData::new_u64(self.connections.len() as u64);
        epoll::add(&self.epoll, &fd, number, epoll::EventFlags::IN)?;
        self.connections.push((fd, follower));
        // Each connection is logged, and the earlier followers receive that line.
        self.read_ready(Duration::ZERO).map(|_| ())
    }

    /// Reads what arrives within `timeout`. Returns whether anything did.
    fn read_ready(&mut self, timeout: Duration) -> Result<bool> {
        let mut ready = Vec::with_capacity(MAX_READY);
        match epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut ready),
            Some(&Timespec::try_from(timeout)?),
        ) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        for event in &ready {
            let number = event.data.u64();
            ensure!(number != STDIN_TOKEN, "the followers were ended early");
            let (fd, follower) = &mut self.connections[usize::try_from(number)?];
            let bytes = read(&*fd, &mut self.buffer)?;
            ensure!(bytes > 0, "a follower was disconnected");
            follower.receive(&self.buffer[..bytes], &self.finders, &mut self.tally)?;
        }
        Ok(!ready.is_empty())
    }

    fn run(mut self) -> Result<()> {
        let started_at = Instant::now();
        while self.read_ready(LINGER_TIME)? {
            ensure!(
                started_at.elapsed() < TIMEOUT,
                "the followers never get to rest"
            );
        }
        let stdin = epoll::EventData::new_u64(STDIN_TOKEN);
        epoll::add(&self.epoll, std::io::stdin(), stdin, epoll::EventFlags::IN)?;
        print_line(READY)?;
        let outcome = self.receive();
        let tally = std::mem::replace(&mut self.tally, LatencyTally::new(0, 0));
        let report = tally.report(outcome.err().map(|error| format!("{error:#}")));
        print_line(&serde_json::to_string(&report)?)?;
        // The followers stay connected, because memory is measured meanwhile.
        let mut rest = String::new();
        std::io::stdin().read_line(&mut rest)?;
        Ok(())
    }

    /// Reads until all events have arrived, or no more arrive.
    fn receive(&mut self) -> Result<()> {
        let started_at = Instant::now();
        let mut progress: Option<Instant> = None;
        while started_at.elapsed() < TIMEOUT {
            let timeout = if self.tally.is_complete() {
                LINGER_TIME
            } else {
                QUIET_TIME
            };
            if progress.is_some_and(|progress| progress.elapsed() >= timeout) {
                break;
            }
            let before = self.tally.received();
            self.read_ready(timeout)?;
            if self.tally.received() > before {
                progress = Some(Instant::now());
            }
        }
        Ok(())
    }
}

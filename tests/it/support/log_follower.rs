//! A running `fullon logs`.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{ChildStdout, Command, Stdio};

use super::{ChildGuard, Home, Outcome, spawn};

/// `fullon logs` with its output on a pipe.
pub struct LogFollower {
    pub child: ChildGuard,
    pub lines: BufReader<ChildStdout>,
}

impl LogFollower {
    pub fn start(home: &Home, arguments: &[&str]) -> Self {
        Self::with(home.fullon(std::iter::once("logs").chain(arguments.iter().copied())))
    }

    /// Another program that prints the lines of the log.
    pub fn with(mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = spawn(&mut command);
        let lines = BufReader::new(child.0.stdout.take().unwrap());
        Self { child, lines }
    }

    /// Reads up to and including the line with this text.
    pub fn read_until(&mut self, text: &str) -> Vec<String> {
        let mut read = Vec::new();
        loop {
            let mut line = String::new();
            assert!(
                self.lines.read_line(&mut line).unwrap() > 0,
                "it ended before `{text}`: {read:#?}"
            );
            let is_last = line.contains(text);
            read.push(line);
            if is_last {
                return read;
            }
        }
    }

    /// Waits until it ends by itself. Returns the remaining lines and the outcome.
    pub fn finish(mut self) -> (Vec<String>, Outcome) {
        let mut stdout = String::new();
        self.lines.read_to_string(&mut stdout).unwrap();
        let mut stderr = String::new();
        let mut pipe = self.child.0.stderr.take().unwrap();
        pipe.read_to_string(&mut stderr).unwrap();
        let code = self.child.0.wait().unwrap().code().unwrap_or(-1);
        let lines = stdout.lines().map(|line| format!("{line}\n")).collect();
        let outcome = Outcome {
            code,
            stdout,
            stderr,
        };
        (lines, outcome)
    }
}

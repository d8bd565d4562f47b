//! The console blocks of a Markdown page.

use std::fs;
use std::ops::Range;
use std::path::Path;

/// A command of a block and its output.
pub struct Command {
    /// Number of its line in the page, from 1.
    pub line: usize,
    /// Without the prompts; more than one line if it is continued.
    pub text: String,
    pub expected: Vec<String>,
    /// The lines of the page that hold the output, from 0.
    output: Range<usize>,
}

pub struct Page {
    lines: Vec<String>,
    pub commands: Vec<Command>,
}

impl Page {
    pub fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let mut commands: Vec<Command> = Vec::new();
        let mut language: Option<&str> = None;
        for (index, line) in lines.iter().enumerate() {
            if let Some(fence) = line.strip_prefix("```") {
                language = language.is_none().then_some(fence);
            } else if language == Some("console") {
                if let Some(text) = line.strip_prefix("$ ") {
                    commands.push(Command {
                        line: index + 1,
                        text: text.to_owned(),
                        expected: Vec::new(),
                        output: index + 1..index + 1,
                    });
                } else {
                    let command = commands.last_mut();
                    let command =
                        command.unwrap_or_else(|| panic!("output without a command: {line}"));
                    command.add(index, line);
                }
            }
        }
        assert!(
            language.is_none(),
            "{}: a block is not closed",
            path.display()
        );
        Self { lines, commands }
    }

    /// Writes the page with these outputs of its commands.
    pub fn write(&self, path: &Path, outputs: &[Vec<String>]) {
        let mut text = String::new();
        let mut next = 0;
        let mut push = |lines: &[String]| {
            for line in lines {
                text.push_str(line);
                text.push('\n');
            }
        };
        for (command, output) in self.commands.iter().zip(outputs) {
            push(&self.lines[next..command.output.start]);
            push(output);
            next = command.output.end;
        }
        push(&self.lines[next..]);
        fs::write(path, text).unwrap();
    }
}

impl Command {
    fn add(&mut self, index: usize, line: &str) {
        match line.strip_prefix("> ") {
            Some(continued) if self.expected.is_empty() => {
                self.text.push('\n');
                self.text.push_str(continued);
                self.output = index + 1..index + 1;
            }
            _ => {
                self.expected.push(line.to_owned());
                self.output.end = index + 1;
            }
        }
    }
}

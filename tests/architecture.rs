//! Checks who may know whom: the imports of `src` against the table below, and no cycle anywhere.
//!
//! `make lint` runs this with `--nocapture`, which prints the modules, the edges and the cycles.
//! An import is any path that begins with `crate`, `super`, `self` or a child module. A name that a
//! `mod.rs` re-exports is an import of the file that defines it. Test code is left out.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails when a file cannot be read"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// The top-level modules, and the ones that each may import.
const MAY_KNOW: [(&str, &[&str]); 18] = [
    ("identity", &[]),
    ("sys", &[]),
    ("config", &["identity", "sys"]),
    ("auth", &["config", "identity", "sys"]),
    ("logs", &["config", "sys"]),
    ("audit", &["logs", "sys"]),
    ("proxy", &["config", "sys"]),
    ("workers", &["config", "identity", "logs", "proxy", "sys"]),
    ("health", &["config", "identity", "logs"]),
    ("instance", &["auth", "config", "health", "identity", "sys"]),
    (
        "api",
        &[
            "audit", "auth", "config", "health", "identity", "logs", "sys",
        ],
    ),
    ("client", &["api", "auth", "config", "identity", "sys"]),
    (
        "server",
        &[
            "api", "audit", "auth", "config", "health", "identity", "logs", "proxy", "sys",
            "workers",
        ],
    ),
    (
        "daemon",
        &[
            "api", "audit", "auth", "config", "health", "identity", "instance", "logs", "proxy",
            "server", "sys", "workers",
        ],
    ),
    (
        "control",
        &[
            "api", "audit", "auth", "client", "config", "identity", "instance", "logs", "sys",
        ],
    ),
    (
        "doctor",
        &[
            "api", "audit", "auth", "client", "config", "control", "identity", "instance", "logs",
            "sys",
        ],
    ),
    (
        "cli",
        &[
            "api", "audit", "auth", "client", "config", "control", "daemon", "doctor", "identity",
            "instance", "logs", "server", "sys", "workers",
        ],
    ),
    ("app", &["cli", "identity", "server"]),
];

/// Crates of HTTP and of its schemas, and the only modules that may use them.
const HTTP: [&str; 6] = [
    "http_body_util",
    "hyper",
    "hyper_util",
    "poem",
    "poem_openapi",
    "reqwest",
];
const MAY_USE_HTTP: [&str; 5] = ["api", "app", "client", "proxy", "server"];

/// `["server", "http", "body"]` for `src/server/http/body.rs`; `["server"]` for `src/server/mod.rs`.
type Module = Vec<String>;

/// The modules of the crate and what they import.
struct Crate {
    modules: BTreeMap<Module, Source>,
}

/// One file.
#[derive(Default)]
struct Source {
    file: PathBuf,
    /// Absolute paths that the file names, `*` for a glob.
    paths: BTreeSet<Vec<String>>,
    /// Names that it re-exports, with their absolute paths.
    exports: BTreeMap<String, Vec<String>>,
    /// First segments of all paths in it, for external crates.
    roots: BTreeSet<String>,
}

#[test]
fn modules_import_only_what_they_may_know() {
    let parsed = Crate::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let edges = parsed.edges();
    let mut problems = Vec::new();
    for (from, to) in &edges {
        let (Some(from_top), Some(to_top)) = (from.first(), to.first()) else {
            continue;
        };
        let may_know = MAY_KNOW.iter().find(|(name, _)| name == from_top);
        if from_top != to_top
            && !may_know.is_some_and(|(_, known)| known.contains(&to_top.as_str()))
        {
            problems.push(format!(
                "{} may not import {}",
                parsed.name(from),
                parsed.name(to)
            ));
        }
    }
    for (module, source) in &parsed.modules {
        let top = module.first().map_or("", String::as_str);
        for name in HTTP.iter().filter(|name| source.roots.contains(**name)) {
            if !MAY_USE_HTTP.contains(&top) {
                problems.push(format!(
                    "{} may not use the crate {name}",
                    source.file.display()
                ));
            }
        }
    }
    let cycles = cycles(&edges);
    println!(
        "{} modules, {} imports between them, {} cycles",
        parsed.modules.len(),
        edges.len(),
        cycles.len()
    );
    problems.extend(cycles);
    assert!(
        problems.is_empty(),
        "{} problems:\n{}",
        problems.len(),
        problems.join("\n")
    );
}

impl Crate {
    fn read(src: &Path) -> Self {
        let mut files = Vec::new();
        list_files(src, &mut files);
        let mut modules: BTreeMap<Module, Source> = files
            .iter()
            .map(|file| {
                (
                    module_of(file.strip_prefix(src).unwrap()),
                    Source {
                        file: file.strip_prefix(src).unwrap().into(),
                        ..Source::default()
                    },
                )
            })
            .collect();
        let names: BTreeSet<Module> = modules.keys().cloned().collect();
        let mut test_only = Vec::new();
        for (module, source) in &mut modules {
            let text = fs::read_to_string(src.join(&source.file)).unwrap();
            let tokens: TokenStream = text.parse().unwrap();
            let mut reader = Reader {
                module,
                names: &names,
                source,
                test_only: &mut test_only,
            };
            reader.read(tokens, 0);
        }
        modules.retain(|module, _| !test_only.iter().any(|test| module.starts_with(test)));
        Self { modules }
    }

    /// Pairs of modules of which the first imports the second.
    fn edges(&self) -> BTreeSet<(Module, Module)> {
        let mut edges = BTreeSet::new();
        for (module, source) in &self.modules {
            for path in &source.paths {
                if let Some(target) = self.resolve(path, 0)
                    && target != *module
                {
                    edges.insert((module.clone(), target));
                }
            }
        }
        edges
    }

    /// The module that defines what the path names.
    fn resolve(&self, path: &[String], depth: usize) -> Option<Module> {
        let known = (0..=path.len())
            .rev()
            .find(|len| self.modules.contains_key(&path[..*len]))?;
        let (module, rest) = path.split_at(known);
        let exported = rest
            .first()
            .and_then(|name| self.modules[module].exports.get(name));
        match exported {
            Some(target) if depth < 8 => {
                let target: Vec<String> = target.iter().chain(&rest[1..]).cloned().collect();
                self.resolve(&target, depth + 1)
            }
            _ => Some(module.to_vec()),
        }
    }

    fn name(&self, module: &Module) -> String {
        self.modules[module].file.display().to_string()
    }
}

/// Collects the paths of one file.
struct Reader<'a> {
    module: &'a Module,
    names: &'a BTreeSet<Module>,
    source: &'a mut Source,
    test_only: &'a mut Vec<Module>,
}

impl Reader<'_> {
    /// `depth` is the number of inline modules around the tokens.
    fn read(&mut self, tokens: TokenStream, depth: usize) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut is_test = false;
        let mut is_export = false;
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Group(group) => {
                    let text = group.stream().to_string();
                    if group.delimiter() == Delimiter::Bracket && text.starts_with("cfg") {
                        is_test = text.contains("test") && !text.contains("not");
                    }
                    self.read(group.stream(), depth);
                    at += 1;
                }
                TokenTree::Ident(ident) if ident == "mod" && is_test => {
                    let name = tokens[at + 1].to_string();
                    self.test_only.push(child(self.module, &name));
                    is_test = false;
                    at += 3;
                }
                TokenTree::Ident(ident) if ident == "pub" => {
                    is_export = true;
                    at += 1;
                    if matches!(tokens.get(at), Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Parenthesis)
                    {
                        at += 1;
                    }
                }
                TokenTree::Ident(ident) if ident == "use" => {
                    let end = (at..tokens.len())
                        .find(|i| is_punct(&tokens[*i], ';'))
                        .unwrap_or(tokens.len());
                    if !is_test {
                        self.import(&tokens[at + 1..end], &[], is_export, depth);
                    }
                    (is_test, is_export) = (false, false);
                    at = end;
                }
                TokenTree::Ident(_) => {
                    let end = path_end(&tokens, at);
                    if end > at + 1 && !(at > 0 && is_punct(&tokens[at - 1], ':')) {
                        self.import(&tokens[at..end], &[], false, depth);
                    }
                    if matches!(&tokens[at], TokenTree::Ident(word) if ["fn", "struct", "enum", "impl", "const", "static", "type", "trait"].iter().any(|w| word == w))
                    {
                        (is_test, is_export) = (false, false);
                    }
                    at = end;
                }
                _ => at += 1,
            }
        }
    }

    /// Notes one tree of paths: `a::b::{c, d as e}`.
    fn import(&mut self, tree: &[TokenTree], prefix: &[String], is_export: bool, depth: usize) {
        let mut path = prefix.to_vec();
        let mut alias = None;
        let mut at = 0;
        while at < tree.len() {
            match &tree[at] {
                TokenTree::Ident(ident) if ident == "as" => {
                    alias = tree.get(at + 1).map(ToString::to_string);
                    at += 1;
                }
                TokenTree::Ident(ident) => path.push(ident.to_string()),
                TokenTree::Punct(punct) if punct.as_char() == '*' => path.push("*".into()),
                TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                    let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                    for part in inner.split(|token| is_punct(token, ',')) {
                        if !part.is_empty() {
                            self.import(part, &path, is_export, depth);
                        }
                    }
                    return;
                }
                _ => {}
            }
            at += 1;
        }
        self.note(path, alias, is_export, depth);
    }

    fn note(
        &mut self,
        mut path: Vec<String>,
        alias: Option<String>,
        is_export: bool,
        depth: usize,
    ) {
        if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
            path.pop();
        }
        let Some(first) = path.first().cloned() else {
            return;
        };
        let mut inside = depth;
        let absolute: Vec<String> = match first.as_str() {
            "crate" => path[1..].to_vec(),
            "self" if inside == 0 => self.module.iter().chain(&path[1..]).cloned().collect(),
            "super" => {
                let mut base = self.module.clone();
                let mut rest = &path[..];
                while rest.first().is_some_and(|segment| segment == "super") {
                    if inside > 0 {
                        inside -= 1;
                    } else {
                        base.pop();
                    }
                    rest = &rest[1..];
                }
                base.into_iter().chain(rest.iter().cloned()).collect()
            }
            _ if self.names.contains(&child(self.module, &first)) => {
                self.module.iter().chain(&path).cloned().collect()
            }
            _ => {
                self.source.roots.insert(first);
                return;
            }
        };
        if is_export {
            let name = alias
                .or_else(|| absolute.last().cloned())
                .unwrap_or_default();
            self.source.exports.insert(name, absolute);
        } else {
            self.source.paths.insert(absolute);
        }
    }
}

/// One line for each set of neighbours, files or folders, that import each other in a circle.
fn cycles(edges: &BTreeSet<(Module, Module)>) -> Vec<String> {
    let mut folders: BTreeMap<Module, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for (from, to) in edges {
        let shared = from.iter().zip(to).take_while(|(a, b)| a == b).count();
        let part = |module: &Module| module.get(shared).map_or("mod", String::as_str).to_owned();
        let folder = folders.entry(from[..shared].to_vec()).or_default();
        folder.entry(part(from)).or_default().insert(part(to));
    }
    let mut found = Vec::new();
    for (folder, graph) in &folders {
        let reaches: BTreeMap<&str, BTreeSet<&str>> = graph
            .keys()
            .map(|part| (part.as_str(), reachable(graph, part)))
            .collect();
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        for (part, reached) in &reaches {
            if !reached.contains(part) || seen.contains(*part) {
                continue;
            }
            let circle: Vec<&str> = reached
                .iter()
                .copied()
                .filter(|other| reaches.get(other).is_some_and(|back| back.contains(part)))
                .collect();
            seen.extend(circle.iter().copied());
            found.push(format!(
                "cycle in src/{}: {}",
                folder.join("/"),
                circle.join(", ")
            ));
        }
    }
    found
}

fn reachable<'a>(graph: &'a BTreeMap<String, BTreeSet<String>>, from: &str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&str> = graph
        .get(from)
        .into_iter()
        .flatten()
        .map(String::as_str)
        .collect();
    while let Some(part) = next.pop() {
        if reached.insert(part) {
            next.extend(graph.get(part).into_iter().flatten().map(String::as_str));
        }
    }
    reached
}

fn path_end(tokens: &[TokenTree], from: usize) -> usize {
    let mut end = from + 1;
    while end + 2 < tokens.len()
        && is_punct(&tokens[end], ':')
        && is_punct(&tokens[end + 1], ':')
        && matches!(tokens[end + 2], TokenTree::Ident(_))
    {
        end += 3;
    }
    end
}

fn is_punct(token: &TokenTree, wanted: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == wanted)
}

fn child(module: &Module, name: &str) -> Module {
    module.iter().cloned().chain([name.to_owned()]).collect()
}

fn module_of(file: &Path) -> Module {
    let mut module: Module = file
        .with_extension("")
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    if module
        .last()
        .is_some_and(|last| last == "mod" || last == "lib")
    {
        module.pop();
    }
    module
}

fn list_files(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            list_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

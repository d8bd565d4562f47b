//! `make install` and `make uninstall`.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::support::{Home, Outcome, file_mode};

/// An installation of the test build in its own directory.
struct Installation {
    directory: tempfile::TempDir,
    prefix: &'static str,
}

impl Installation {
    fn new(prefix: &'static str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let installation = Self { directory, prefix };
        installation.make("install");
        installation
    }

    fn make(&self, target: &str) {
        let mut command = Command::new("make");
        command
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            // Inherited from a `make test` that runs this.
            .env_remove("MAKEFLAGS")
            .args(["--silent", target])
            .arg(format!("DESTDIR={}", self.directory.path().display()))
            .arg(format!("PREFIX={}", self.prefix))
            .arg(concat!("FULLON=", env!("CARGO_BIN_EXE_fullon")));
        let outcome = Outcome::run(&mut command).succeeds();
        // Next steps are printed only when the running system changes.
        assert_eq!((outcome.stdout, outcome.stderr), <_>::default());
    }

    fn files(&self) -> Vec<String> {
        let mut files = Vec::new();
        collect_files(self.directory.path(), self.directory.path(), &mut files);
        files.sort();
        files
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.directory.path().join(file)).unwrap()
    }
}

fn collect_files(root: &Path, directory: &Path, files: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            assert_eq!(file_mode(&path), 0o755, "{}", path.display());
            collect_files(root, &path, files);
        } else {
            let name = path.strip_prefix(root).unwrap().display().to_string();
            let expected = if name.ends_with("bin/fullon") {
                0o755
            } else {
                0o644
            };
            assert_eq!(file_mode(&path), expected, "{name}");
            files.push(name);
        }
    }
}

#[test]
fn install_places_every_file_and_uninstall_removes_it() {
    for (prefix, systemd) in [
        ("/usr/local", "usr/local/lib"),
        ("/usr", "usr/lib"),
        ("/opt/fullon", "etc"),
    ] {
        let installation = Installation::new(prefix);
        let root = prefix.trim_start_matches('/');
        let mut expected = vec![
            format!("{root}/bin/fullon"),
            format!("{root}/share/bash-completion/completions/fullon"),
            format!("{root}/share/doc/fullon/LICENSE"),
            format!("{root}/share/doc/fullon/THIRD-PARTY.txt"),
            format!("{root}/share/fish/vendor_completions.d/fullon.fish"),
            format!("{root}/share/man/man1/fullon.1"),
            format!("{root}/share/zsh/site-functions/_fullon"),
            format!("{systemd}/systemd/system/fullon_master_api.service"),
            format!("{systemd}/systemd/system/fullon_master_api-admin.socket"),
            format!("{systemd}/systemd/system/fullon_master_api.socket"),
            format!("{systemd}/sysusers.d/fullon_master_api.conf"),
            format!("{systemd}/tmpfiles.d/fullon_master_api.conf"),
        ];
        expected.sort();
        assert_eq!(installation.files(), expected);

        let unit = installation.read(&format!(
            "{systemd}/systemd/system/fullon_master_api.service"
        ));
        for line in [
            format!("ExecStart={prefix}/bin/fullon run\n"),
            format!("ExecReload={prefix}/bin/fullon restart\n"),
            format!("ExecPaths={prefix} "),
        ] {
            assert!(unit.contains(&line), "no {line:?} in {unit}");
        }
        let page = installation.read(&format!("{root}/share/man/man1/fullon.1"));
        assert!(page.contains(".SS fullon restart"), "{page}");

        let settings = "etc/fullon_master_api/.env";
        std::fs::create_dir_all(installation.directory.path().join("etc/fullon_master_api"))
            .unwrap();
        std::fs::write(installation.directory.path().join(settings), "PORT=9000\n").unwrap();
        installation.make("install");
        installation.make("uninstall");
        assert_eq!(installation.files(), [settings]);
    }
}

/// They use the built program. Without one, they say how to build it.
#[test]
fn daemon_targets_of_make_do_not_compile() {
    let home = Home::new();
    let run = |target: &str, program: &str| {
        let mut make = home.command("make");
        make.current_dir(env!("CARGO_MANIFEST_DIR"))
            .env_remove("MAKEFLAGS")
            .args(["CARGO=false", &format!("FULLON={program}"), target]);
        Outcome::run(&mut make)
    };
    let missing = home.path().join("missing").display().to_string();
    for (target, code, error) in [
        ("daemon-stop", 2, "Error 1"),
        ("daemon-status", 2, "Error 3"),
        ("daemon-logs", 0, "the daemon is not running"),
    ] {
        run(target, env!("CARGO_BIN_EXE_fullon"))
            .exits(code)
            .stderr_contains(&[error]);
        run(target, &missing)
            .exits(2)
            .stderr_contains(&[&missing, "run `make daemon-start` first"]);
    }
}

#[test]
fn bash_accepts_the_completions() {
    let installation = Installation::new("/usr/local");
    let script = installation
        .directory
        .path()
        .join("usr/local/share/bash-completion/completions/fullon");
    let mut bash = Command::new("bash");
    bash.args(["-euc", "source \"$0\" && complete -p fullon"])
        .arg(script);
    Outcome::run(&mut bash)
        .succeeds()
        .stdout_contains(&["_fullon"]);
}

/// The crates that are linked, as cargo lists them.
fn linked_crates() -> BTreeSet<String> {
    let mut tree = Command::new(env!("CARGO"));
    tree.current_dir(env!("CARGO_MANIFEST_DIR"));
    tree.args([
        "tree",
        "--locked",
        "--offline",
        "--edges=normal",
        "--prefix=none",
        "--format={p}",
    ]);
    tree.arg("--target=x86_64-unknown-linux-gnu");
    let tree = Outcome::run(&mut tree).succeeds().stdout;
    let fields = tree.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let crates = fields.filter(|fields| fields[0] != "fullon_master_api");
    crates
        .map(|fields| format!("{} {}", fields[0], fields[1].trim_start_matches('v')))
        .collect()
}

#[test]
fn notices_name_every_linked_crate() {
    let notices = concat!(env!("CARGO_MANIFEST_DIR"), "/THIRD-PARTY.txt");
    let notices = std::fs::read_to_string(notices).unwrap();
    let (_, notices) = notices.split_once("\n\n").unwrap();
    let (list, texts) = notices.split_once("\n\n===").unwrap();
    let named = list.lines().filter_map(|line| line.split_once(": "));
    let named: BTreeSet<_> = named.map(|(name, _)| name.to_owned()).collect();
    let linked = linked_crates();
    let missing: Vec<_> = linked.difference(&named).collect();
    assert!(missing.is_empty(), "run `make third-party`: {missing:?}");
    let is_crate = |name: &&String| name.split(' ').count() == 2 && !name.contains("npm");
    let gone: Vec<_> = named
        .iter()
        .filter(is_crate)
        .filter(|name| !linked.contains(*name))
        .collect();
    assert!(gone.is_empty(), "run `make third-party`: {gone:?}");
    for name in &named {
        assert!(texts.contains(&format!("\n{name}\n")), "no text for {name}");
    }
    for text in [
        "SmartBear Software",
        "Facebook",
        "ISC License",
        "UNICODE LICENSE",
    ] {
        assert!(texts.contains(text), "{text}");
    }
}

#[test]
fn image_has_the_notices() {
    let containerfile = concat!(env!("CARGO_MANIFEST_DIR"), "/Containerfile");
    let containerfile = std::fs::read_to_string(containerfile).unwrap();
    let copy = "install -m 0644 LICENSE THIRD-PARTY.txt /root-of-image/usr/share/doc/fullon";
    assert!(containerfile.contains(copy));
}

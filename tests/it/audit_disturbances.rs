//! Everything that disturbs the audit trail, at once: writers that are killed, restarts, reloads,
//! a full disk, a flood of requests and rotations. Afterwards the trail is intact, and each
//! change to it is found.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fullon_master_api::audit::{Report, last_records, trail_owner, verify};

use crate::audit_trail::fill_up;
use crate::support::{
    ChildGuard, Connection, Home, Outcome, SetOnDrop, eventually, running_as_root, scale, spawn,
};

/// A mount namespace with a small disk of its own. It lives as long as the guard.
struct SmallDisk {
    holder: ChildGuard,
    path: PathBuf,
}

impl SmallDisk {
    fn mount(home: &Home) -> Self {
        let path = home.path().join("disk");
        fs::create_dir(&path).unwrap();
        let holder = spawn(
            home.command("unshare")
                .args(["--mount", "--propagation", "private", "sh", "-ec"])
                .arg("mount -t tmpfs -o size=400m tmpfs disk && exec sleep 3600"),
        );
        let disk = Self { holder, path };
        let comm = format!("/proc/{}/comm", disk.holder.0.id());
        eventually("the disk is mounted", || {
            fs::read_to_string(&comm).is_ok_and(|name| name == "sleep\n")
        });
        disk
    }

    /// The path of a file of the disk, as processes outside of the namespace see it.
    fn outside(&self, name: &str) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.0.id()));
        root.join(self.path.strip_prefix("/").unwrap()).join(name)
    }

    /// Runs the program in the namespace. `nsenter` becomes the program, with the same PID.
    fn command(&self, home: &Home, program: &Path) -> Command {
        let mut command = home.command("nsenter");
        command
            .arg(format!("--mount=/proc/{}/ns/mnt", self.holder.0.id()))
            .arg(format!("--wd={}", home.path().display()))
            .arg(program);
        command
    }

    fn start_writer(&self, home: &Home) -> ChildGuard {
        let mut command = self.command(home, &std::env::current_exe().unwrap());
        command
            .args(["--exact", "audit_trail::writing::writer_process"])
            .env("AUDIT_TRAIL_TO_WRITE", self.path.join("audit"))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        spawn(&mut command)
    }
}

/// Sends requests with a bad token, and returns their number. A failed test ends it early.
fn flood(host: &str, has_failed: &AtomicBool) -> u64 {
    let mut connection = Connection::open(host);
    let mut sent = 0;
    while !has_failed.load(Ordering::Relaxed) && sent < scale::flood() {
        let headers = [("Authorization", "Bearer x")];
        connection.send("POST", "/admin/stop", &headers, "");
        let response = connection.read_response("POST");
        assert!(matches!(response.status, 401 | 404 | 429), "{response:#?}");
        if response.header("connection") == Some("close") {
            connection = Connection::open(host);
        }
        sent += 1;
    }
    sent
}

#[test]
fn trail_stays_intact_through_everything_at_once() {
    if !running_as_root("trail_stays_intact_through_everything_at_once") {
        return;
    }
    let mut home = Home::new();
    home.extend_time_limit(Duration::from_secs(scale::rounds() * 5));
    let disk = SmallDisk::mount(&home);
    let audit = disk.path.join("audit");
    home.set("AUDIT_FILE", audit.to_str().unwrap());
    let mut start = disk.command(&home, Path::new(env!("CARGO_BIN_EXE_fullon")));
    Outcome::run(start.arg("start")).succeeds();
    home.run(["reload"]).succeeds();
    let audit = disk.outside("audit");
    let filler = disk.outside("filler");
    let owner = trail_owner(&audit, None);
    // A file that is rotated meanwhile cannot be read.
    let last_seq = || last_records(&audit, owner, 1, None).map_or(0, |records| records[0].seq);
    let check = || verify(&audit, owner, None, None).unwrap();
    // The next records rotate the file.
    fill_up(&audit, 10 * 1024 * 1024);

    let has_failed = AtomicBool::new(false);
    let hosts = [home.public_address(), home.admin_address()];
    std::thread::scope(|scope| {
        let _end = SetOnDrop(&has_failed);
        let floods = hosts
            .each_ref()
            .map(|host| scope.spawn(|| flood(host, &has_failed)));
        let mut writers = [(); 3].map(|()| disk.start_writer(&home));
        for round in 0..scale::rounds() {
            let before = last_seq();
            eventually("records are added", || last_seq() > before);
            let index = usize::try_from(round % 3).unwrap();
            // Dropping the old one kills it.
            writers[index] = disk.start_writer(&home);
            home.call_admin("POST", "/admin/reload");
            match round % 8 {
                1 | 5 => drop(home.restart()),
                3 => {
                    let mut file = fs::File::create(&filler).unwrap();
                    while file.write_all(&[b'x'; 4096]).is_ok() {}
                    eventually("the daemon says that the disk is full", || {
                        home.call_admin("POST", "/admin/reload");
                        let status = home.call_admin("GET", "/admin/status").json();
                        !status["audit"]["error"].is_null()
                    });
                    writers[index] = disk.start_writer(&home);
                    fs::remove_file(&filler).unwrap();
                }
                _ => {}
            }
        }
        let sent = floods.map(|flood| flood.join().unwrap());
        println!("requests of the floods: {sent:?}");
    });
    home.run(["stop"]).succeeds();

    let report = check();
    println!("{report:#?}");
    assert!(report.intact, "{report:#?}");
    assert!(report.files > 1, "{report:#?}");
    let (first, last) = (report.first_seq.unwrap(), report.last_seq.unwrap());
    assert_eq!(report.records, last - first + 1, "{report:#?}");
    each_change_is_found(&audit, &check);
}

/// Changes the files in each way, and puts them back.
fn each_change_is_found(audit: &Path, check: &dyn Fn() -> Report) {
    let file = PathBuf::from(format!("{}.1", audit.display()));
    let text = fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let middle = lines.len() / 2;
    let mut swapped = lines.clone();
    swapped.swap(middle, middle + 1);
    let mut repeated = lines.clone();
    repeated.insert(middle, lines[middle - 1]);
    let changes = [
        ("edit", lines.concat().replacen("accepted", "refused", 1)),
        (
            "deletion",
            [&lines[..middle], &lines[middle + 1..]].concat().concat(),
        ),
        ("swap", swapped.concat()),
        ("repetition", repeated.concat()),
    ];
    for (change, changed) in changes {
        assert_ne!(changed, text, "{change}");
        fs::write(&file, changed).unwrap();
        let report = check();
        assert!(!report.intact, "{change}: {report:#?}");
        fs::write(&file, &text).unwrap();
    }
    fs::remove_file(&file).unwrap();
    assert!(!check().intact, "a missing file");
    fs::write(&file, &text).unwrap();
    assert!(check().intact);
}

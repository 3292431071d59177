//! The commands of the mesh as scripts see them: exit codes, output, files. What needs an answer asks a
//! real hypermeshd (`HYPERMESHD_BIN`, or the one built beside this test), and says so when there is none.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::env;
use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

const STOQCTL: &str = env!("CARGO_BIN_EXE_stoqctl");

/// How long hypermeshd may take to listen on two busy cores.
const START: Duration = Duration::from_secs(60);

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A host: the directories that a command would use, and perhaps a daemon.
struct Host {
    directory: TempDir,
    daemon: Option<Child>,
    /// Where its API is, with a daemon.
    listen: String,
}

impl Host {
    fn bare() -> Self {
        Self { directory: TempDir::new().unwrap(), daemon: None, listen: String::new() }
    }

    /// With hypermeshd, if there is one.
    fn with_daemon(test: &str) -> Option<Self> {
        let program = hypermeshd();
        if !program.is_file() {
            let missing = program.display();
            assert!(env::var_os("HYPERMESHD_BIN").is_none(), "{missing} is named but missing");
            eprintln!("{test}: SKIPPED, {missing} is not built");
            return None;
        }
        let mut host = Self::bare();
        let log = File::create(host.path("hypermeshd.log")).unwrap();
        let mut daemon = Command::new(program);
        daemon.arg("--state").arg(host.path("state")).arg("--socket").arg(host.socket());
        // Tokens lead to port 9292 of an endpoint; an address of its own keeps tests apart.
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        host.listen = format!("127.93.{}.{}:9292", free >> 8, free & 0xff);
        daemon.args(["--listen", &host.listen, "--metrics", "127.0.0.1:0"]);
        daemon.arg("--stoqd-socket").arg(host.path("stoqd.sock"));
        daemon.arg("--peers-socket").arg(host.path("peers.sock"));
        let daemon = daemon.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        host.daemon = Some(daemon);
        host.wait_for_socket();
        Some(host)
    }

    fn wait_for_socket(&self) {
        let begin = Instant::now();
        while !self.socket().exists() {
            let log = fs::read_to_string(self.path("hypermeshd.log")).unwrap();
            assert!(begin.elapsed() < START, "hypermeshd does not listen: {log}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn socket(&self) -> PathBuf {
        self.path("hypermeshd.sock")
    }

    fn run(&self, words: &[&str]) -> Output {
        self.run_with(words, Stdio::null())
    }

    fn run_with(&self, words: &[&str], input: Stdio) -> Output {
        let mut command = Command::new(STOQCTL);
        command.arg("--hypermesh-socket").arg(self.socket());
        command.arg("--socket").arg(self.path("stoqd.sock"));
        command.args(words).stdin(input).output().unwrap()
    }

    /// Runs `mesh create lab` with files in this host's directory, and further words.
    fn create(&self, further: &[&str]) -> Output {
        let (root, config) = (self.path("root"), self.path("etc/stoqd.toml"));
        let words = ["mesh", "create", "lab", "--node", "edge-a"];
        let files = ["--root", root.to_str().unwrap(), "--config", config.to_str().unwrap()];
        self.run(&[&words, &files[..], further].concat())
    }

    fn json(&self, words: &[&str]) -> Value {
        let output = self.run(&[words, &["--json"]].concat());
        assert_eq!(output.status.code(), Some(0), "{words:?}: {}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            daemon.kill().unwrap();
            daemon.wait().unwrap();
        }
    }
}

fn hypermeshd() -> PathBuf {
    let beside = || Path::new(STOQCTL).with_file_name("hypermeshd");
    env::var_os("HYPERMESHD_BIN").map_or_else(beside, PathBuf::from)
}

#[test]
fn without_hypermeshd_every_command_ends_with_3_and_names_the_socket() {
    let host = Host::bare();
    let (token, backup) = (host.path("token"), host.path("backup"));
    fs::write(&token, "a-token\n").unwrap();
    let (token, backup) = (token.to_str().unwrap(), backup.to_str().unwrap());
    let out = host.path("out");
    for words in [
        &["mesh", "members"][..],
        &["mesh", "token", "edge-b", "--out", out.to_str().unwrap()],
        &["mesh", "join", "--token-file", token],
        &["mesh", "route", "add", "edge-b", "10.2.0.0/16"],
        &["mesh", "revoke", "edge-b"],
        &["mesh", "leave"],
        &["backup", backup],
        &["restore", token],
    ] {
        let output = host.run(words);
        assert_eq!(output.status.code(), Some(3), "{words:?}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains("hypermeshd.sock"), "{}", text(&output.stderr));
        assert!(output.stdout.is_empty(), "{words:?}");
    }
    assert_eq!(host.create(&[]).status.code(), Some(3));
    for left in ["out", "backup", "root", "etc"] {
        assert!(!host.path(left).exists(), "a command without a daemon left {left}");
    }
}

#[test]
fn what_is_wrong_here_ends_with_2_before_a_daemon_is_asked() {
    let host = Host::bare();
    fs::create_dir(host.path("root")).unwrap();
    fs::write(host.path("root/root.key"), "another mesh's").unwrap();
    let output = host.create(&[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--root DIR"), "{}", text(&output.stderr));
    let none = host.path("none");
    let none = none.to_str().unwrap();
    for words in [
        &["restore", none][..],
        &["mesh", "promote", "edge-b", "--root", none],
        &["cert", "show", none, "--authority", none],
        &["log", "verify", "--authority", none],
        &["mesh", "create", "lab", "--endpoint", "edge-a"],
        &["mesh", "token", "edge-b", "--expires", "1w"],
        &["mesh", "join", "a-token"],
        &["mesh", "mebmers"],
    ] {
        assert_eq!(host.run(words).status.code(), Some(2), "{words:?}");
    }
}

#[test]
fn shells_and_man_know_every_command() {
    let host = Host::bare();
    for shell in ["bash", "zsh", "fish"] {
        let script = text(&host.run(&["completions", shell]).stdout);
        assert!(script.contains("promote") && script.contains("hypermesh-socket"), "{shell}");
    }
    let pages = host.path("man");
    assert_eq!(host.run(&["man", pages.to_str().unwrap()]).status.code(), Some(0));
    for page in ["stoqctl.1", "stoqctl-mesh-create.1", "stoqctl-cert-show.1", "stoqctl-backup.1"] {
        let page = fs::read_to_string(pages.join(page)).expect(page);
        assert!(page.contains(".TH"), "{page}");
    }
}

#[test]
fn a_mesh_is_created_with_its_root_its_configuration_and_the_next_step() {
    let test = "a_mesh_is_created_with_its_root_its_configuration_and_the_next_step";
    let Some(host) = Host::with_daemon(test) else { return };
    let output = host.create(&["--ipv4", "10.92.0.0/24", "--endpoint", "192.0.2.1:9292"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    for part in ["Mesh lab-", "This host is edge-a: fd", "10.92.0.1", "root", "stoqctl mesh token"]
    {
        assert!(said.contains(part), "{part} is missing: {said}");
    }
    let mode = |name: &str| fs::metadata(host.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("root"), mode("root/root.key")), (0o700, 0o600));
    let config = fs::read_to_string(host.path("etc/stoqd.toml")).unwrap();
    assert!(
        config.contains("name = \"edge-a\"") && config.contains("\"10.92.0.1/32\""),
        "{config}"
    );

    let members = host.json(&["mesh", "members"]);
    assert_eq!(members["members"][0]["node"], "edge-a");
    assert_eq!(members["members"][0]["issuer"], true);
    fs::remove_dir_all(host.path("root")).unwrap();
    let again = host.create(&[]);
    assert_eq!(again.status.code(), Some(1), "{}", text(&again.stderr));
    assert!(text(&again.stderr).contains("stoqctl mesh leave"), "{}", text(&again.stderr));
    assert!(!host.path("root").exists(), "a refused founding left a root");
}

#[test]
fn a_token_is_all_that_standard_output_has_and_a_file_is_private() {
    let test = "a_token_is_all_that_standard_output_has_and_a_file_is_private";
    let Some(host) = Host::with_daemon(test) else { return };
    assert_eq!(host.run(&["mesh", "token", "edge-b"]).status.code(), Some(1), "there is no mesh");
    assert!(host.create(&[]).status.success());
    let output = host.run(&["mesh", "token", "edge-b"]);
    let token = text(&output.stdout);
    assert_eq!(token.split_whitespace().count(), 1, "{token}");
    assert!(text(&output.stderr).contains("stoqctl mesh join"), "{}", text(&output.stderr));
    let file = host.path("token");
    let name = file.to_str().unwrap();
    let output = host.run(&["mesh", "token", "edge-c", "--out", name]);
    assert!(output.status.success() && output.stdout.is_empty(), "{}", text(&output.stderr));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(host.run(&["mesh", "token", "edge-d", "--out", name]).status.code(), Some(2));
    let held = host.run(&["mesh", "token", "edge-a"]);
    assert_eq!(held.status.code(), Some(1), "a name that is held: {}", text(&held.stderr));
}

#[test]
fn certificates_and_both_logs_verify_and_a_forged_root_does_not() {
    let test = "certificates_and_both_logs_verify_and_a_forged_root_does_not";
    let Some(host) = Host::with_daemon(test) else { return };
    assert!(host.create(&[]).status.success());
    let (identity, root) = (host.path("state/identity.pem"), host.path("state/root.crt"));
    let (identity, root) = (identity.to_str().unwrap(), root.to_str().unwrap());
    let shown = host.run(&["cert", "show", identity, "--authority", root]);
    let said = text(&shown.stdout);
    assert_eq!(shown.status.code(), Some(0), "{said}{}", text(&shown.stderr));
    for line in ["edge-a.lab.internal", "classical    verifies", "alternative  verifies", "(in 2"] {
        assert!(said.contains(line), "{line} is missing: {said}");
    }
    let certificates = host.json(&["cert", "show", root, "--authority", root]);
    assert_eq!(certificates[0]["kind"], "root");
    let log = host.json(&["log", "verify", "--authority", root]);
    assert!(log["certificates"].as_u64() > Some(0), "{log}");
    let audit = host.json(&["audit", "verify", "--authority", root]);
    assert!(audit["entries"].as_u64() > Some(0), "{audit}");

    let other = Host::with_daemon(test).unwrap();
    assert!(other.create(&[]).status.success());
    let foreign = other.path("state/root.crt");
    let foreign = foreign.to_str().unwrap();
    let refused = host.run(&["cert", "show", identity, "--authority", foreign]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stdout).contains("DOES NOT VERIFY"), "{}", text(&refused.stdout));
    for log in ["log", "audit"] {
        let refused = host.run(&[log, "verify", "--authority", foreign]);
        assert_eq!(refused.status.code(), Some(1), "{}", text(&refused.stderr));
    }
}

#[test]
fn every_answer_of_hypermeshd_is_json_for_scripts() {
    let Some(host) = Host::with_daemon("every_answer_of_hypermeshd_is_json") else { return };
    let created = host.create(&["--json"]);
    assert_eq!(created.status.code(), Some(0), "{}", text(&created.stderr));
    let created: Value = serde_json::from_slice(&created.stdout).unwrap();
    assert_eq!(created["node"], "edge-a");
    let (token, backup) = (host.path("token"), host.path("backup"));
    let (token, backup) = (token.to_str().unwrap(), backup.to_str().unwrap());
    assert_eq!(host.json(&["mesh", "token", "edge-b", "--out", token])["file"], token);
    assert!(host.json(&["mesh", "token", "edge-c"])["token"].is_string());
    for action in ["add", "remove"] {
        let done = host.json(&["mesh", "route", action, "edge-a", "10.2.0.0/16"]);
        assert!(done["height"].is_u64(), "{done}");
    }
    let promoted = host.path("root");
    let promoted = ["mesh", "promote", "edge-a", "--root", promoted.to_str().unwrap()];
    assert!(host.json(&promoted)["height"].is_u64());
    assert_eq!(host.json(&["backup", backup])["file"], backup);
    assert!(host.json(&["names", "show"])["domains"].is_array());
}

#[test]
fn an_operator_works_from_elsewhere_within_his_role() {
    let Some(host) = Host::with_daemon("an_operator_works_from_elsewhere") else { return };
    assert!(host.create(&["--endpoint", &host.listen]).status.success());
    let elsewhere = Host::bare();
    let (token, files) = (elsewhere.path("token"), elsewhere.path("operator"));
    let (token, files) = (token.to_str().unwrap(), files.to_str().unwrap());
    let made = host.run(&["mesh", "token", "eva", "--role", "viewer", "--out", token]);
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    let enrolled = elsewhere.json(&["mesh", "enrol", files, "--token-file", token]);
    assert!(enrolled["role"].as_str().unwrap().contains("viewer"), "{enrolled}");
    let (identity, root) = (format!("{files}/operator.pem"), format!("{files}/root.crt"));
    assert_eq!(fs::metadata(&identity).unwrap().permissions().mode() & 0o777, 0o600);
    let api = format!("https://{}", host.listen);
    let under = |root: &str, words: &[&str]| {
        let way = ["--api", &api, "--identity", &identity, "--authority", root];
        elsewhere.run(&[&way, words].concat())
    };
    let members = under(&root, &["mesh", "members", "--json"]);
    assert_eq!(members.status.code(), Some(0), "{}", text(&members.stderr));
    let members: Value = serde_json::from_slice(&members.stdout).unwrap();
    assert_eq!(members["members"][0]["node"], "edge-a");
    let before = fs::read(&identity).unwrap();
    let renewed = under(&root, &["mesh", "renew"]);
    assert_eq!(renewed.status.code(), Some(0), "{}", text(&renewed.stderr));
    assert_ne!(fs::read(&identity).unwrap(), before);
    assert_eq!(fs::metadata(&identity).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(under(&root, &["mesh", "members"]).status.code(), Some(0), "with the new one");
    assert_eq!(host.run(&["mesh", "renew"]).status.code(), Some(2), "a node renews by itself");
    for words in [&["mesh", "revoke", "edge-a"][..], &["mesh", "token", "edge-b"]] {
        let refused = under(&root, words);
        assert_eq!(refused.status.code(), Some(1), "{words:?}: {}", text(&refused.stderr));
        assert!(text(&refused.stderr).contains("operator eva (viewer)"), "{words:?}");
    }
    // What is about this host is not asked of another.
    assert_eq!(under(&root, &["mesh", "create", "lab"]).status.code(), Some(2));
    // A mesh of another root is not spoken to.
    let other = Host::with_daemon("another mesh").unwrap();
    assert!(other.create(&[]).status.success());
    let foreign = other.path("state/root.crt");
    let refused = under(foreign.to_str().unwrap(), &["mesh", "members"]);
    assert_eq!(refused.status.code(), Some(3), "{}", text(&refused.stderr));
    assert!(refused.stdout.is_empty());
}

#[test]
fn a_backup_brings_the_mesh_back_elsewhere() {
    let Some(host) = Host::with_daemon("a_backup_brings_the_mesh_back_elsewhere") else { return };
    assert!(host.create(&[]).status.success());
    let file = host.path("mesh.backup");
    let name = file.to_str().unwrap();
    let output = host.run(&["backup", name]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(host.run(&["backup", name]).status.code(), Some(2), "a file was overwritten");
    let other = Host::with_daemon("restore").unwrap();
    let config = other.path("stoqd.toml");
    let restored = other.run(&["restore", name, "--config", config.to_str().unwrap()]);
    assert_eq!(restored.status.code(), Some(0), "{}", text(&restored.stderr));
    let (here, there) = (host.json(&["mesh", "members"]), other.json(&["mesh", "members"]));
    assert_eq!(here, there);
    let written = fs::read_to_string(&config).unwrap();
    assert!(written.contains("name = \"edge-a\""), "{written}");
    assert_eq!(other.run(&["restore", name]).status.code(), Some(1), "over a mesh");
}

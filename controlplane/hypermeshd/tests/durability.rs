//! What was acknowledged survives `kill -9`, a full disk is a refusal, a damaged state is said.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod hosts;

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use hosts::{Host, code, refused};
use hypermesh_api::{
    BlockingClient, ClientError, ErrorCode, State, Status, TokenReply, TokenRequest, TokenRole,
    Tokens, path,
};

/// Kills of one test: each is at another moment of a write.
const KILLS: u32 = 8;

fn request(node: &str) -> TokenRequest {
    TokenRequest {
        node: node.into(),
        role: TokenRole::Node,
        expires_s: 3600,
        addresses: vec!["127.0.0.1:9292".parse().unwrap()],
    }
}

/// Makes tokens until the daemon is gone, and returns what was acknowledged.
fn make_until_killed(mut client: BlockingClient, count: &AtomicU32) -> BTreeSet<String> {
    let mut acknowledged = BTreeSet::new();
    loop {
        let node = format!("n{}", count.fetch_add(1, Ordering::Relaxed));
        match client.post::<_, TokenReply>(path::TOKENS, &request(&node)) {
            Ok(_) => acknowledged.insert(node),
            Err(ClientError::Broken(_)) => return acknowledged,
            Err(other) => panic!("{other}"),
        };
    }
}

#[test]
fn what_was_acknowledged_is_there_after_every_kill() {
    let mut host = Host::start();
    host.found("lab", "edge-a");
    let (count, mut acknowledged) = (AtomicU32::new(0), BTreeSet::new());
    for round in 1..=KILLS {
        let client = host.client();
        let before = count.load(Ordering::Relaxed);
        let made = std::thread::scope(|scope| {
            let maker = scope.spawn(|| make_until_killed(client, &count));
            while count.load(Ordering::Relaxed) < before + 2 + round {
                std::thread::yield_now();
            }
            host.kill();
            maker.join().unwrap()
        });
        assert!(!made.is_empty());
        acknowledged.extend(made);
        host.run();
        let tokens: Tokens = host.client().get(path::TOKENS).unwrap();
        let there: BTreeSet<_> = tokens.tokens.into_iter().map(|token| token.node).collect();
        assert!(there.is_superset(&acknowledged), "lost: {:?}", acknowledged.difference(&there));
    }
}

#[test]
fn a_truncated_state_is_refused_and_what_is_lost_is_said() {
    let mut host = Host::start();
    host.found("lab", "edge-a");
    host.kill();
    let path = host.state().join("state.redb");
    let length = std::fs::metadata(&path).unwrap().len();
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(length / 2).unwrap();
    let output = host.command().output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("state.redb") && said.contains("stoqctl restore"), "{said}");
}

#[test]
fn a_backup_is_restored_on_another_host() {
    let mut host = Host::start();
    host.found("lab", "edge-a");
    host.token("edge-b", TokenRole::Node, 600);
    let backup = host.client().post_bytes(path::BACKUP, Vec::new()).unwrap();
    let before: Status = host.client().get(path::STATUS).unwrap();
    host.kill();
    let other = Host::start();
    let mut cut = backup.clone();
    cut.truncate(backup.len() - 1);
    assert_eq!(code(other.client().post_bytes(path::RESTORE, cut)), ErrorCode::Invalid);
    other.client().post_bytes(path::RESTORE, backup).unwrap();
    let after: Status = other.client().get(path::STATUS).unwrap();
    assert_eq!((after.state, after.mesh), (State::Sequencer, before.mesh));
    assert_eq!(after.state_hash, before.state_hash);
    // It issues from where it was.
    let joiner = Host::start();
    joiner.join(&other.token("edge-c", TokenRole::Node, 600)).unwrap();
}

#[test]
fn backups_every_few_minutes_do_not_fill_the_audit_log() {
    let mut host = Host::start();
    host.found("lab", "edge-a");
    let mut client = host.client();
    let audit = host.state().join("audit.log");
    let mut entries = || {
        client.post_bytes(path::BACKUP, Vec::new()).unwrap();
        let text = std::fs::read_to_string(&audit).unwrap();
        text.lines().filter(|line| line.contains("\"backup\"")).count()
    };
    assert_eq!(entries(), 1);
    // The hour may end meanwhile, once.
    assert!((0..10).map(|_| entries()).max().unwrap() <= 2);
    host.kill();
}

/// A small file system of its own, gone with the test.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    /// None where this test may not mount.
    fn mount(path: std::path::PathBuf) -> Option<Self> {
        std::fs::create_dir_all(&path).unwrap();
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", "size=6m", "tmpfs"]).arg(&path).status();
        mounted.is_ok_and(|status| status.success()).then_some(Self(path))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_a_refusal_and_the_daemon_lives() {
    let mut host = Host::start();
    host.kill();
    let Some(disk) = SmallDisk::mount(host.state()) else {
        eprintln!("skipped: mounting a tmpfs needs root");
        return;
    };
    host.run();
    host.found("lab", "edge-a");
    let mut client = host.client();
    let fill = disk.0.join("fill");
    let mut hole = std::fs::File::create(&fill).unwrap();
    while std::io::Write::write_all(&mut hole, &[0; 4096]).is_ok() {}
    // An open file keeps its room when it is removed.
    drop(hole);
    // The store has some room of its own; the first request that needs more is refused.
    let refusal = (0..4096).find_map(|n| {
        let made = client.post::<_, TokenReply>(path::TOKENS, &request(&format!("n{n}")));
        made.is_err().then(|| refused(made))
    });
    let refusal = refusal.expect("a full disk");
    assert_eq!(refusal.code, ErrorCode::Storage, "{refusal:?}");
    assert!(refusal.message.contains("disk"), "{refusal:?}");
    let status: Status = client.get(path::STATUS).unwrap();
    assert_eq!(status.state, State::Sequencer);
    std::fs::remove_file(&fill).unwrap();
    client.post::<_, TokenReply>(path::TOKENS, &request("after")).unwrap();
}

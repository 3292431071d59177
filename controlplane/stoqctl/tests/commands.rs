//! The command line as scripts see it: exit codes, output, files. The daemon's end of the control
//! socket is played from its own message types.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output};
use std::thread::{self, JoinHandle};

use serde_json::Value;
use stoq_control::{ErrorCode, Refusal, Reply, Request, Response, Status, decode_call, encode};
use tempfile::TempDir;

fn stoqctl(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_stoqctl")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Answers one request with `response` and the bytes behind it; gives back the request.
fn answer(socket: &Path, response: Response, behind: &'static [u8]) -> JoinHandle<Request> {
    let listener = UnixListener::bind(socket).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut line = Vec::new();
        BufReader::new(&stream).read_until(b'\n', &mut line).unwrap();
        stream.write_all(&encode(&Reply::new(response)).unwrap()).unwrap();
        stream.write_all(behind).unwrap();
        decode_call(&line).unwrap().request
    })
}

/// Runs a command against a daemon that answers with `response`.
fn against(response: Response, behind: &'static [u8], command: &[&str]) -> (Output, Request) {
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("stoqd.sock");
    let daemon = answer(&socket, response, behind);
    let output = stoqctl(&[&["--socket", socket.to_str().unwrap()], command].concat());
    (output, daemon.join().unwrap())
}

#[test]
fn pki_makes_a_root_and_node_certificates() {
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let init = stoqctl(&["pki", "init", &path("pki"), "--mesh", "lab"]);
    assert_eq!(init.status.code(), Some(0), "{}", text(&init.stderr));
    let issue = stoqctl(&["pki", "issue", &path("pki"), "edge-a", "--out", &path("out")]);
    assert_eq!(issue.status.code(), Some(0), "{}", text(&issue.stderr));
    for name in ["node.crt", "node.key", "ca.crt"] {
        assert!(fs::metadata(path(&format!("out/{name}"))).unwrap().is_file());
    }
    let again = stoqctl(&["pki", "init", &path("pki"), "--mesh", "lab"]);
    assert_eq!(again.status.code(), Some(2));
    assert!(text(&again.stderr).contains("choose another directory"), "{}", text(&again.stderr));
}

#[test]
fn wrong_usage_ends_with_2_and_a_suggestion() {
    let misspelt = stoqctl(&["statsu"]);
    assert_eq!(misspelt.status.code(), Some(2));
    assert!(text(&misspelt.stderr).contains("'status'"), "{}", text(&misspelt.stderr));
    assert_eq!(stoqctl(&[]).status.code(), Some(2));
    assert_eq!(stoqctl(&["--help"]).status.code(), Some(0));
}

#[test]
fn an_absent_daemon_ends_with_3() {
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("none.sock");
    let out = directory.path().join("x.pcap");
    let out = out.to_str().unwrap();
    for command in [&["status"][..], &["reload"], &["drain"], &["capture", "--out", out]] {
        let output = stoqctl(&[&["--socket", socket.to_str().unwrap()], command].concat());
        assert_eq!(output.status.code(), Some(3), "{command:?}");
        assert!(text(&output.stderr).contains("none.sock"), "{}", text(&output.stderr));
    }
    assert!(!Path::new(out).exists(), "a capture without a daemon left a file");
}

#[test]
fn a_refusal_ends_with_1_and_its_reason() {
    let refusal = Refusal::new(ErrorCode::Forbidden, "uid 7 may not drain");
    let (output, request) = against(Response::Error(refusal), b"", &["drain"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stderr), "stoqctl: uid 7 may not drain\n");
    assert_eq!(request, Request::Drain {});
}

#[test]
fn an_answer_to_another_question_is_a_failure() {
    let (output, _) = against(Response::Draining {}, b"", &["status"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
}

#[test]
fn status_is_json_for_scripts_and_a_table_for_people() {
    let status = Status { node: "edge-a".into(), uptime_s: 12, ..Status::default() };
    let (output, _) =
        against(Response::Status(Box::new(status.clone())), b"", &["status", "--json"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(serde_json::from_slice::<Status>(&output.stdout).unwrap(), status);
    let (output, request) = against(Response::Status(Box::new(status)), b"", &["status"]);
    assert!(text(&output.stdout).starts_with("edge-a  stoqd"), "{}", text(&output.stdout));
    assert_eq!(request, Request::Status {});
}

/// The answer of a command with `--json`.
fn json(output: &Output, code: i32) -> Value {
    assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn every_answer_of_the_daemon_is_json_for_scripts() {
    let needed = vec!["transport.port".to_owned()];
    let reloaded = || Response::Reloaded { restart_needed: needed.clone(), warnings: Vec::new() };
    // The flag may stand before and behind the command.
    for command in [["reload", "--json"], ["--json", "reload"]] {
        let (output, _) = against(reloaded(), b"", &command);
        assert_eq!(json(&output, 0)["restart_needed"][0], "transport.port");
    }
    let (output, _) = against(Response::Draining {}, b"", &["drain", "--json"]);
    assert_eq!(json(&output, 0)["draining"], true);
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("a.pcap");
    let capture = ["capture", "--json", "--out", file.to_str().unwrap()];
    let (output, _) = against(Response::Capture { link_type: 101 }, b"pcap bytes", &capture);
    let captured = json(&output, 0);
    assert_eq!((&captured["bytes"], captured["file"].as_str()), (&Value::from(10), file.to_str()));
}

#[test]
fn what_needs_no_daemon_answers_in_json_too() {
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let made = json(&stoqctl(&["--json", "pki", "init", &path("pki"), "--mesh", "lab"]), 0);
    assert_eq!((&made["name"], made["files"].as_array().unwrap().len()), (&Value::from("lab"), 2));
    let issue = ["pki", "issue", &path("pki"), "edge-a", "--out", &path("out"), "--json"];
    for file in json(&stoqctl(&issue), 0)["files"].as_array().unwrap() {
        assert!(fs::metadata(file.as_str().unwrap()).unwrap().is_file(), "{file}");
    }
    let script = json(&stoqctl(&["completions", "bash", "--json"]), 0);
    assert!(script["script"].as_str().unwrap().contains("stoqctl"), "{script}");
    let pages = json(&stoqctl(&["man", &path("man"), "--json"]), 0);
    assert_eq!(pages["directory"], path("man"));
    let (socket, config) = (path("none.sock"), path("none.toml"));
    let doctor = ["--socket", &socket, "doctor", "--config", &config, "--json"];
    let report = json(&stoqctl(&doctor), 2);
    assert!(report["problems"].as_u64() >= Some(2), "{report}");
    let findings = report["findings"].as_array().unwrap();
    let daemon = findings.iter().find(|finding| finding["stage"] == "daemon").unwrap();
    assert_eq!(daemon["verdict"], "problem");
    let undone = json(&stoqctl(&["names", "undo", "resolv-conf", "--json"]), 0);
    assert_eq!(undone["changed"], false, "{undone}");
}

#[test]
fn bytes_of_others_on_standard_output_are_never_mixed_with_json() {
    for command in [&["capture", "--json"][..], &["stream", "b", "backup", "--json"]] {
        let output = stoqctl(command);
        assert_eq!(output.status.code(), Some(2), "{command:?}");
        assert!(output.stdout.is_empty(), "{command:?}");
    }
}

#[test]
fn reload_and_drain_say_what_happens() {
    let reloaded = Response::Reloaded {
        restart_needed: vec!["transport.port".into()],
        warnings: vec!["edge-c is overridden".into()],
    };
    let (output, request) = against(reloaded, b"", &["reload"]);
    assert_eq!((output.status.code(), request), (Some(0), Request::Reload {}));
    assert!(text(&output.stdout).contains("transport.port"), "{}", text(&output.stdout));
    let (output, request) = against(Response::Draining {}, b"", &["drain"]);
    assert_eq!((output.status.code(), request), (Some(0), Request::Drain {}));
}

#[test]
fn a_capture_is_copied_whole_into_a_new_private_file() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("a.pcap");
    let name = file.to_str().unwrap();
    let capture = || Response::Capture { link_type: 101 };
    let command = ["capture", "--tunnel", "--count", "5", "--seconds", "2", "--out", name];
    let (output, request) = against(capture(), b"pcap bytes", &command);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(fs::read(&file).unwrap(), b"pcap bytes");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let Request::Capture(asked) = request else { panic!("{request:?}") };
    assert_eq!((asked.packets, asked.seconds), (5, 2));

    let (output, _) = against(capture(), b"more", &command);
    assert_eq!(output.status.code(), Some(2), "an existing file must stay");
    assert_eq!(fs::read(&file).unwrap(), b"pcap bytes");
}

#[test]
fn a_capture_without_a_file_goes_to_standard_output() {
    let (output, _) = against(Response::Capture { link_type: 101 }, b"pcap", &["capture"]);
    assert_eq!((output.status.code(), output.stdout), (Some(0), b"pcap".to_vec()));
}

#[test]
fn the_doctor_reports_every_part_and_ends_with_2_on_a_problem() {
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("none.sock");
    let config = directory.path().join("stoqd.toml");
    fs::write(&config, "[transport]\ninterface = \"nosuch0\"\n").unwrap();
    let output = stoqctl(&[
        "--socket",
        socket.to_str().unwrap(),
        "doctor",
        "--config",
        config.to_str().unwrap(),
    ]);
    assert_eq!(output.status.code(), Some(2));
    let report = text(&output.stdout);
    for line in ["good     configuration", "PROBLEM  interface", "PROBLEM  daemon", "kernel"] {
        assert!(report.contains(line), "{line} is missing:\n{report}");
    }
}

#[test]
fn a_stream_becomes_standard_input_and_output() {
    let (output, asked) =
        against(Response::Stream {}, b"from the peer", &["stream", "b", "backup"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "from the peer");
    assert_eq!(asked, Request::Stream { peer: "b".into(), service: "backup".into() });
}

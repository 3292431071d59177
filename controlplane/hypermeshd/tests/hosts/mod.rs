//! Hosts for tests: real hypermeshd processes with state directories of their own, on loopback, and
//! the root that a test holds as `stoqctl` does.
#![allow(dead_code, reason = "each test binary uses its part")]

pub mod links;

use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hypermesh_api::{
    BlockingClient, ClientError, ErrorCode, FoundReply, FoundRequest, IssuerRequest,
    IssuerRequestOf, JoinReply, JoinRequest, Refusal, TokenReply, TokenRequest, TokenRole, path,
};
use stoq_identity::{Kind, PrivateKeys};
use stoq_trustchain::{
    Authority, Dates, ISSUER_VALIDITY, Prefixes, ROOT_VALIDITY, Request, Subject,
};
use tempfile::TempDir;

/// How long a daemon may take to start or answer on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A host with a daemon, which ends with it.
pub struct Host {
    pub dir: TempDir,
    pub listen: SocketAddr,
    pub metrics: SocketAddr,
    child: Option<Child>,
}

impl Host {
    /// A host whose daemon runs.
    pub fn start() -> Self {
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [listen, metrics] = listeners.map(|listener| listener.local_addr().unwrap());
        let mut host = Self { dir: TempDir::new().unwrap(), listen, metrics, child: None };
        host.run();
        host
    }

    pub fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("hypermeshd.sock")
    }

    pub fn peers(&self) -> PathBuf {
        self.dir.path().join("peers.sock")
    }

    /// Where the host asks for names: apart from those of other tests, as all ask port 53.
    pub fn names(&self) -> std::net::Ipv4Addr {
        let [high, low] = self.listen.port().to_be_bytes();
        [127, 92, high, low].into()
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hypermeshd"));
        command
            .arg("--state")
            .arg(self.state())
            .arg("--socket")
            .arg(self.socket())
            .arg("--peers-socket")
            .arg(self.peers())
            .arg("--stoqd-socket")
            .arg(self.dir.path().join("stoqd.sock"))
            .args(["--listen", &self.listen.to_string(), "--metrics", &self.metrics.to_string()])
            .args(["--names", &self.names().to_string()]);
        command
    }

    /// Starts the daemon and waits until it answers.
    pub fn run(&mut self) {
        self.run_as(self.command());
    }

    /// As [`Host::run`], by another command line.
    pub fn run_as(&mut self, mut command: Command) {
        let child = command.stdin(Stdio::null()).spawn().unwrap();
        self.child = Some(child);
        let begin = Instant::now();
        while UnixStream::connect(self.socket()).is_err() {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "hypermeshd ended: {ended:?}");
            assert!(begin.elapsed() < PATIENCE, "hypermeshd does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Kills the daemon without a warning.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            child.wait().unwrap();
        }
    }

    pub fn client(&self) -> BlockingClient {
        BlockingClient::unix(&self.socket(), PATIENCE).unwrap()
    }

    /// As a peer whose stream stoqd hands over.
    pub fn as_peer(&self, name: &str) -> BlockingClient {
        let (path, line) = (self.peers(), format!("{{\"peer\":\"{name}\",\"node\":\"x\"}}\n"));
        BlockingClient::connect(async move {
            use tokio::io::AsyncWriteExt as _;
            let mut stream = tokio::net::UnixStream::connect(path).await.unwrap();
            stream.write_all(line.as_bytes()).await.unwrap();
            hypermesh_api::Client::over(stream, PATIENCE).await
        })
        .unwrap()
    }

    /// The page of metrics.
    pub fn figures(&self) -> String {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(self.metrics).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        page
    }

    /// How many requests were refused for this reason.
    pub fn refusals(&self, reason: &str) -> u64 {
        let name = format!("hypermesh_refused_total{{reason=\"{reason}\"}} ");
        let page = self.figures();
        let line = page.lines().find_map(|line| line.strip_prefix(&name));
        line.map_or(0, |count| count.parse().unwrap())
    }

    pub fn token(&self, node: &str, role: TokenRole, expires_s: u64) -> String {
        let request =
            TokenRequest { node: node.into(), role, expires_s, addresses: vec![self.listen] };
        self.client().post::<_, TokenReply>(path::TOKENS, &request).unwrap().token
    }

    pub fn join(&self, token: &str) -> Result<JoinReply, Refusal> {
        let request = JoinRequest { token: token.into(), endpoints: Vec::new() };
        refusal(self.client().post(path::JOIN, &request))
    }

    /// Founds a mesh here under a new root.
    pub fn found(&self, name: &str, node: &str) -> (Root, FoundReply) {
        let root = Root::new(name);
        let of = IssuerRequestOf { mesh: root.0.mesh().into(), node: node.into() };
        let request = self.client().post(path::ISSUER_REQUEST, &of).unwrap();
        let found = root.found(name, &request);
        let reply = self.client().post(path::FOUND, &found).unwrap();
        (root, reply)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The refusal in a result; any other failure ends the test.
pub fn refusal<T>(result: Result<T, ClientError>) -> Result<T, Refusal> {
    result.map_err(|error| match error {
        ClientError::Refused(refusal) => refusal,
        other => panic!("expected an answer, got {other}"),
    })
}

/// A refusal that has to come.
pub fn refused<T>(result: Result<T, ClientError>) -> Refusal {
    match refusal(result) {
        Ok(_) => panic!("expected a refusal, got an answer"),
        Err(refusal) => refusal,
    }
}

/// The code of a refusal that has to come.
pub fn code<T>(result: Result<T, ClientError>) -> ErrorCode {
    refused(result).code
}

/// The root of a mesh.
pub struct Root(pub Authority);

impl Root {
    pub fn new(name: &str) -> Self {
        let keys = Arc::new(PrivateKeys::generate().unwrap());
        let dates = Dates::of(SystemTime::now(), ROOT_VALIDITY);
        Self(Authority::found(name, keys, dates).unwrap())
    }

    /// Signs an issuer's and its log's certificates, as PEM.
    pub fn sign(&self, request: &IssuerRequest) -> (String, String) {
        let dates = Dates::of(SystemTime::now(), ISSUER_VALIDITY);
        let sign = |bytes: &[u8], kind, subject: &Subject| {
            let asked = Request::from_bytes(bytes).unwrap();
            assert_eq!((asked.kind, &asked.name), (kind, &request.node));
            let keys = asked.verify(&[]).unwrap();
            hypermeshd::pem::certificate(&self.0.issue(subject, keys, dates).unwrap())
        };
        let prefixes = Prefixes::of(self.0.mesh(), None);
        let issuer = Subject::Issuer { node: request.node.clone(), prefixes };
        let log = Subject::Log { node: request.node.clone() };
        (sign(&request.issuer.0, Kind::Issuer, &issuer), sign(&request.log.0, Kind::Log, &log))
    }

    fn found(&self, name: &str, request: &IssuerRequest) -> FoundRequest {
        let (issuer, log) = self.sign(request);
        FoundRequest {
            name: name.into(),
            node: request.node.clone(),
            root: hypermeshd::pem::certificate(self.0.certificate()),
            issuer,
            log,
            ipv4: None,
            endpoints: vec!["127.0.0.1:9292".parse().unwrap()],
            policy: None,
        }
    }
}

/// Reads a file of a host.
pub fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

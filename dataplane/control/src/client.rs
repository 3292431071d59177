//! A blocking client of the control socket. Owned by `stoqctl` and by tests.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{Call, LineError, MAX_REPLY_BYTES, Refusal, Request, Response, decode_reply, encode};

/// A connection to the daemon.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

/// Why a request got no result.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens on the socket, or this user may not connect.
    #[error(
        "expected stoqd to listen on {path}, got: {source}; is stoqd running, and is the path right?"
    )]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The connection broke or the daemon did not answer in time.
    #[error("expected an answer from stoqd, got: {0}; look at its log")]
    Io(#[from] io::Error),
    /// The answer cannot be understood.
    #[error(transparent)]
    Line(#[from] LineError),
    /// The daemon refused.
    #[error("{}", .0.message)]
    Refused(Refusal),
}

impl Client {
    /// Connects to the daemon; each later read or write may take `timeout`.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`].
    pub fn connect(path: &Path, timeout: Duration) -> Result<Self, ClientError> {
        let unreachable = |source| ClientError::Unreachable { path: path.to_owned(), source };
        let stream = UnixStream::connect(path).map_err(unreachable)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Sends a request and waits for its response.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if the daemon answered with an error; the others if it did not
    /// answer.
    pub fn call(&mut self, request: Request) -> Result<Response, ClientError> {
        let line = encode(&Call::new(request))?;
        match self.stream.get_mut().write_all(&line) {
            // A daemon that lets this user do nothing says so and closes, before it reads anything.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            other => other?,
        }
        let mut reply = Vec::new();
        let limit = MAX_REPLY_BYTES as u64 + 1;
        self.stream.by_ref().take(limit).read_until(b'\n', &mut reply)?;
        if reply.is_empty() {
            let closed = "the daemon closed the connection";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, closed).into());
        }
        match decode_reply(&reply)?.response {
            Response::Error(refusal) => Err(ClientError::Refused(refusal)),
            response => Ok(response),
        }
    }

    /// The two directions of the stream after a [`Response::Stream`]: to read from, and to write to.
    /// They wait as long as it takes. Shut the second one down to say that there is no more.
    ///
    /// # Errors
    /// If the socket cannot be duplicated.
    pub fn into_duplex(self) -> io::Result<(impl Read + Send, UnixStream)> {
        let socket = self.stream.get_ref();
        socket.set_read_timeout(None)?;
        socket.set_write_timeout(None)?;
        let writer = socket.try_clone()?;
        Ok((self.stream, writer))
    }

    /// The bytes that follow a [`Response::Capture`]. A read may take as long as `idle`.
    ///
    /// # Errors
    /// If the timeout cannot be set.
    pub fn into_stream(self, idle: Duration) -> io::Result<impl Read> {
        self.stream.get_ref().set_read_timeout(Some(idle))?;
        Ok(self.stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorCode, Reply, decode_call};
    use std::os::unix::net::UnixListener;

    /// A listener that reads one call and answers with `reply`.
    fn answering(path: &Path, reply: Vec<u8>) -> std::thread::JoinHandle<Call> {
        let listener = UnixListener::bind(path).unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut line = Vec::new();
            BufReader::new(&stream).read_until(b'\n', &mut line).unwrap();
            stream.write_all(&reply).unwrap();
            decode_call(&line).unwrap()
        })
    }

    /// The path of a socket in a folder of its own, which goes with it.
    struct Socket(PathBuf);

    impl std::ops::Deref for Socket {
        type Target = Path;
        fn deref(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for Socket {
        fn drop(&mut self) {
            let _ = self.0.parent().map(std::fs::remove_dir_all);
        }
    }

    fn socket(name: &str) -> Socket {
        let dir = std::env::temp_dir().join(format!("stoq-control-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Socket(dir.join("stoqd.sock"))
    }

    fn call_once(path: &Path) -> Result<Response, ClientError> {
        Client::connect(path, Duration::from_secs(10))?.call(Request::Drain {})
    }

    #[test]
    fn a_call_is_answered() {
        let path = socket("answered");
        let server = answering(&path, encode(&Reply::new(Response::Draining {})).unwrap());
        assert_eq!(call_once(&path).unwrap(), Response::Draining {});
        assert_eq!(server.join().unwrap().request, Request::Drain {});
    }

    #[test]
    fn a_refusal_is_an_error_with_the_reason() {
        let path = socket("refused");
        let refusal = Refusal::new(ErrorCode::Forbidden, "uid 7 may not");
        let server = answering(&path, encode(&Reply::new(Response::Error(refusal))).unwrap());
        assert_eq!(call_once(&path).unwrap_err().to_string(), "uid 7 may not");
        server.join().unwrap();
    }

    #[test]
    fn a_refusal_that_came_before_the_request_is_read() {
        let path = socket("early");
        let listener = UnixListener::bind(&*path).unwrap();
        let mut client = Client::connect(&path, Duration::from_secs(10)).unwrap();
        let refusal = Refusal::new(ErrorCode::Busy, "too many");
        let reply = encode(&Reply::new(Response::Error(refusal))).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(&reply).unwrap();
        drop(stream);
        assert_eq!(client.call(Request::Status {}).unwrap_err().to_string(), "too many");
    }

    #[test]
    fn a_closed_connection_and_an_absent_daemon_are_told_apart() {
        let path = socket("closed");
        let server = answering(&path, Vec::new());
        assert!(matches!(call_once(&path), Err(ClientError::Io(_))));
        server.join().unwrap();
        let absent = socket("absent");
        assert!(matches!(call_once(&absent), Err(ClientError::Unreachable { .. })));
    }
}

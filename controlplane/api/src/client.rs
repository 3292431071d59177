//! A client of the API over a connection that the caller made: a Unix socket, TLS, a STOQ stream.
//!
//! [`Client`] is for tokio programs; [`BlockingClient`] carries its own small runtime, for command
//! lines. One request at a time on one connection.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use crate::{MAX_BACKUP_BYTES, MAX_RESPONSE_BYTES, Refusal};

/// Why a request got no result.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens on the socket, or this user may not connect.
    #[error(
        "expected hypermeshd to listen on {path}, got: {source}; is hypermeshd running, and is the path right?"
    )]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The connection broke, or the answer did not come in time.
    #[error("expected an answer from hypermeshd, got: {0}; look at its log")]
    Broken(String),
    /// The answer is none of this API.
    #[error(
        "expected an answer of API version {version}, got {got}; use programs of one version",
        version = crate::VERSION
    )]
    Malformed {
        /// What came.
        got: String,
    },
    /// The daemon refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// A connection to a hypermeshd.
#[derive(Debug)]
pub struct Client {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
    timeout: Duration,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Client {
    /// Speaks HTTP/1.1 over `io`; each answer may take `timeout`.
    ///
    /// # Errors
    /// [`ClientError::Broken`].
    pub async fn over<I>(io: I, timeout: Duration) -> Result<Self, ClientError>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) =
            http1::handshake(TokioIo::new(io)).await.map_err(|e| broken(&e))?;
        // How it ended is told by the request that it ended for.
        let driver = tokio::spawn(async move { drop(connection.await) });
        Ok(Self { sender, driver, timeout })
    }

    /// Connects to the local socket of a hypermeshd.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`].
    pub async fn unix(path: &Path, timeout: Duration) -> Result<Self, ClientError> {
        let unreachable = |source| ClientError::Unreachable { path: path.to_owned(), source };
        Self::over(UnixStream::connect(path).await.map_err(unreachable)?, timeout).await
    }

    /// `GET` of a path, which may carry a query.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if the daemon answered with an error; the others if it did not
    /// answer.
    pub async fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, ClientError> {
        decode(&self.send(Method::GET, path, Bytes::new(), MAX_RESPONSE_BYTES).await?)
    }

    /// `POST` of a body.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn post<B: Serialize, T: DeserializeOwned>(
        &mut self,
        path: &str,
        body: &B,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|e| broken(&e))?;
        decode(&self.send(Method::POST, path, body.into(), MAX_RESPONSE_BYTES).await?)
    }

    /// `POST` of bytes that are no JSON, answered by bytes: [`BACKUP`](crate::path::BACKUP) and
    /// [`RESTORE`](crate::path::RESTORE).
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn post_bytes(&mut self, path: &str, body: Vec<u8>) -> Result<Vec<u8>, ClientError> {
        Ok(self.send(Method::POST, path, body.into(), MAX_BACKUP_BYTES).await?.to_vec())
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
        limit: usize,
    ) -> Result<Bytes, ClientError> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "hypermesh")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|e| broken(&e))?;
        let exchange = async {
            let response = self.sender.send_request(request).await.map_err(|e| broken(&e))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), limit).collect().await;
            let body = body.map_err(|e| broken(&e))?.to_bytes();
            Ok::<_, ClientError>((status, body))
        };
        let (status, body) = match tokio::time::timeout(self.timeout, exchange).await {
            Ok(answer) => answer?,
            Err(_) => return Err(ClientError::Broken(format!("none in {:?}", self.timeout))),
        };
        if status.is_success() { Ok(body) } else { Err(refusal(status, &body)) }
    }
}

fn refusal(status: StatusCode, body: &[u8]) -> ClientError {
    match serde_json::from_slice::<Refusal>(body) {
        Ok(refusal) => ClientError::Refused(refusal),
        Err(_) => ClientError::Malformed { got: format!("status {status}") },
    }
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(body).map_err(|e| ClientError::Malformed { got: e.to_string() })
}

fn broken(error: &dyn std::fmt::Display) -> ClientError {
    ClientError::Broken(error.to_string())
}

/// A [`Client`] for programs without a runtime.
#[derive(Debug)]
pub struct BlockingClient {
    // Dropped first: its task belongs to the runtime.
    client: Client,
    runtime: tokio::runtime::Runtime,
}

impl BlockingClient {
    /// Connects to the local socket of a hypermeshd; each answer may take `timeout`.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`].
    pub fn unix(path: &Path, timeout: Duration) -> Result<Self, ClientError> {
        Self::connect(Client::unix(path, timeout))
    }

    /// Makes the connection by `connecting`, such as one over TLS, on the client's runtime.
    ///
    /// # Errors
    /// Those of `connecting`.
    pub fn connect(
        connecting: impl Future<Output = Result<Client, ClientError>>,
    ) -> Result<Self, ClientError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| broken(&e))?;
        let client = runtime.block_on(connecting)?;
        Ok(Self { client, runtime })
    }

    /// As [`Client::get`].
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, ClientError> {
        self.runtime.block_on(self.client.get(path))
    }

    /// As [`Client::post`].
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn post<B: Serialize, T: DeserializeOwned>(
        &mut self,
        path: &str,
        body: &B,
    ) -> Result<T, ClientError> {
        self.runtime.block_on(self.client.post(path, body))
    }

    /// As [`Client::post_bytes`].
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn post_bytes(&mut self, path: &str, body: Vec<u8>) -> Result<Vec<u8>, ClientError> {
        self.runtime.block_on(self.client.post_bytes(path, body))
    }
}

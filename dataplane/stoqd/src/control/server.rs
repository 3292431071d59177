//! The server: accepts, checks who calls, reads bounded lines, answers. Runs as tasks of the control
//! thread; what blocks runs beside it.

use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener as StdListener;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use stoq_control::{
    Call, CaptureRequest, ErrorCode, MAX_REQUEST_BYTES, Refusal, Reply, Request, Response, Right,
    decode_call, encode,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;

use super::{Operations, capture};

/// Most connections at once: a person, the control plane and a few scripts.
const CONNECTIONS_MAX: usize = 32;

/// Most captures at once: both points, or two people at one.
const CAPTURES_MAX: usize = 2;

/// Longest request line in bytes of those who may not push: no other request is longer.
const SHORT_LINE_MAX: usize = 4096;

/// How long a connection may be silent between requests, or take to send or receive a line.
const IDLE: Duration = Duration::from_secs(30);

/// Pause after accept failed: descriptors may have run out, and come back when somebody closes.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What all connections share.
struct Shared<O> {
    operations: Arc<O>,
    captures: Arc<Semaphore>,
    /// Whether connections are to be closed once they are answered.
    stopped: watch::Receiver<bool>,
}

/// Serves the socket until it is told to stop, and ends when everybody is answered.
///
/// # Errors
/// When the listener cannot be watched.
pub async fn serve<O: Operations>(
    listener: StdListener,
    operations: Arc<O>,
    mut stopped: watch::Receiver<bool>,
) -> io::Result<()> {
    let listener = UnixListener::from_std(listener)?;
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let captures = Arc::new(Semaphore::new(CAPTURES_MAX));
    let shared = Arc::new(Shared { operations, captures, stopped: stopped.clone() });
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop(&mut stopped) => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("the control socket cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let permit = Arc::clone(&connections).try_acquire_owned().ok();
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            if let Err(error) = greet(stream, permit, &shared).await {
                tracing::debug!("a connection of the control socket broke: {error}");
            }
        });
    }
    drop(listener);
    // It is never closed.
    let _all = connections.acquire_many(CONNECTIONS_MAX as u32).await;
    Ok(())
}

/// Waits until the server is told to stop; without end if nobody can tell it any more.
async fn stop(stopped: &mut watch::Receiver<bool>) {
    if stopped.wait_for(|stopped| *stopped).await.is_err() {
        std::future::pending().await
    }
}

/// Lets a caller in who has any right and for whom there is room.
async fn greet<O: Operations>(
    mut stream: UnixStream,
    permit: Option<OwnedSemaphorePermit>,
    shared: &Arc<Shared<O>>,
) -> io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    // Looked at before the line, so that users without rights cannot hold the connections.
    if !shared.operations.may(uid, Right::Read) {
        return send(&mut stream, refuse(ErrorCode::Forbidden, &forbidden(uid, Right::Read))).await;
    }
    let Some(_permit) = permit else {
        let full =
            format!("expected at most {CONNECTIONS_MAX} connections, got one more; try later");
        return send(&mut stream, refuse(ErrorCode::Busy, &full)).await;
    };
    talk(stream, uid, shared).await
}

/// Answers requests until the caller closes, breaks the rules or captures.
async fn talk<O: Operations>(
    stream: UnixStream,
    uid: u32,
    shared: &Arc<Shared<O>>,
) -> io::Result<()> {
    let may_push = shared.operations.may(uid, Right::Push);
    let line_max = if may_push { MAX_REQUEST_BYTES } else { SHORT_LINE_MAX };
    let mut stream = BufReader::new(stream);
    let mut stopped = shared.stopped.clone();
    loop {
        let mut line = Vec::new();
        let mut bounded = (&mut stream).take(line_max as u64 + 1);
        let read = tokio::select! {
            read = timeout(IDLE, bounded.read_until(b'\n', &mut line)) => read??,
            // Another process serves: the caller connects anew.
            () = stop(&mut stopped) => 0,
        };
        if read == 0 {
            return Ok(());
        }
        if line.len() > line_max {
            let long = format!("expected a line of at most {line_max} bytes, got a longer one");
            return send(&mut stream, refuse(ErrorCode::Invalid, &long)).await;
        }
        let call = match decode_call(&line) {
            Ok(Call { request, .. }) => request,
            Err(refusal) => {
                send(&mut stream, Response::Error(refusal)).await?;
                continue;
            }
        };
        // The control planes of two nodes speak over streams: who may push may open them too.
        let is_stream = matches!(call, Request::Stream { .. });
        let may_push = || shared.operations.may(uid, Right::Push);
        if !(shared.operations.may(uid, call.right()) || is_stream && may_push()) {
            let response = refuse(ErrorCode::Forbidden, &forbidden(uid, call.right()));
            send(&mut stream, response).await?;
            continue;
        }
        tracing::info!(uid, "control request: {}", name_of(&call));
        if let Request::Capture(limits) = call {
            return start_capture(stream, limits, shared).await;
        }
        if let Request::Stream { peer, service } = call {
            return start_stream(stream, peer, service, shared).await;
        }
        if let Request::Names { address } = call {
            give_names(&mut stream, address, shared).await?;
            continue;
        }
        let operations = Arc::clone(&shared.operations);
        let response = tokio::task::spawn_blocking(move || perform(&*operations, call)).await;
        send(&mut stream, response.map_err(io::Error::other)?).await?;
    }
}

/// Carries out what is answered by one line.
fn perform(operations: &impl Operations, request: Request) -> Response {
    let result = match request {
        Request::Status {} => Ok(Response::Status(Box::new(operations.status()))),
        Request::Reload {} => operations
            .reload()
            .map(|(restart_needed, warnings)| Response::Reloaded { restart_needed, warnings }),
        Request::Drain {} => operations.drain().map(|()| Response::Draining {}),
        Request::Upgrade {} => {
            operations.upgrade().map(|(pid, version)| Response::Upgraded { pid, version })
        }
        Request::Push { snapshot } => {
            let number = snapshot.number;
            operations.push(snapshot).map(|overridden| Response::Pushed { number, overridden })
        }
        Request::Identity { certificate, key } => operations
            .identity(&certificate, &key)
            .map(|certificate| Response::Identity { certificate }),
        Request::Names { .. } | Request::Capture(_) | Request::Stream { .. } => Err(Refusal::new(
            ErrorCode::Invalid,
            "expected a request that a line answers, got one that is answered by more",
        )),
    };
    result.unwrap_or_else(Response::Error)
}

/// Gives the caller the sockets of a server of names, beside the answer's line.
async fn give_names<O: Operations>(
    stream: &mut BufReader<UnixStream>,
    address: IpAddr,
    shared: &Arc<Shared<O>>,
) -> io::Result<()> {
    let operations = Arc::clone(&shared.operations);
    let opened = tokio::task::spawn_blocking(move || operations.names(address)).await;
    let sockets = match opened.map_err(io::Error::other)? {
        Ok(sockets) => sockets,
        Err(refusal) => return send(stream, Response::Error(refusal)).await,
    };
    let line = encode(&Reply::new(Response::Names {})).map_err(io::Error::other)?;
    let socket = stream.get_ref();
    let sending = socket.async_io(Interest::WRITABLE, || send_beside(socket, &line, &sockets));
    let sent = timeout(IDLE, sending).await??;
    // They came with its first byte.
    timeout(IDLE, stream.write_all(&line[sent..])).await?
}

/// Sends bytes with descriptors beside the first, and says how many bytes went.
fn send_beside(to: &UnixStream, bytes: &[u8], sockets: &[OwnedFd]) -> io::Result<usize> {
    let raw: Vec<RawFd> = sockets.iter().map(AsRawFd::as_raw_fd).collect();
    let (beside, flags) = ([ControlMessage::ScmRights(&raw)], MsgFlags::MSG_NOSIGNAL);
    Ok(sendmsg::<()>(to.as_raw_fd(), &[IoSlice::new(bytes)], &beside, flags, None)?)
}

async fn start_capture<O: Operations>(
    mut stream: BufReader<UnixStream>,
    limits: CaptureRequest,
    shared: &Arc<Shared<O>>,
) -> io::Result<()> {
    let Ok(permit) = Arc::clone(&shared.captures).try_acquire_owned() else {
        let full =
            format!("expected at most {CAPTURES_MAX} captures at once, got one more; end one");
        return send(&mut stream, refuse(ErrorCode::Busy, &full)).await;
    };
    let started = match capture::check(limits) {
        Ok(()) => shared.operations.capture(limits.point),
        Err(refusal) => Err(refusal),
    };
    let packets = match started {
        Ok(packets) => packets,
        Err(refusal) => return send(&mut stream, Response::Error(refusal)).await,
    };
    send(&mut stream, Response::Capture { link_type: capture::LINK_TYPE }).await?;
    let stream = stream.into_inner().into_std()?;
    let written = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        capture::stream(&stream, limits, &packets)
    });
    written.await.map_err(io::Error::other)?
}

/// Makes the connection a stream to a peer. The worker writes the answer, so that nothing of the
/// peer's can come before it.
async fn start_stream<O: Operations>(
    mut stream: BufReader<UnixStream>,
    peer: String,
    service: String,
    shared: &Arc<Shared<O>>,
) -> io::Result<()> {
    if !stream.buffer().is_empty() {
        let early = "expected nothing before the answer, got more; send after it";
        return send(&mut stream, refuse(ErrorCode::Invalid, early)).await;
    }
    let greeting = encode(&Reply::new(Response::Stream {})).map_err(io::Error::other)?;
    let socket = stream.into_inner().into_std()?;
    let operations = Arc::clone(&shared.operations);
    let opened = tokio::task::spawn_blocking(move || {
        let opened = operations.stream(&peer, &service, &socket, &greeting);
        (opened, socket)
    });
    let (opened, socket) = opened.await.map_err(io::Error::other)?;
    match opened {
        Ok(()) => Ok(()),
        Err(refusal) => send(&mut UnixStream::from_std(socket)?, Response::Error(refusal)).await,
    }
}

async fn send(stream: &mut (impl AsyncWriteExt + Unpin), response: Response) -> io::Result<()> {
    let line = encode(&Reply::new(response)).map_err(io::Error::other)?;
    timeout(IDLE, stream.write_all(&line)).await?
}

fn refuse(code: ErrorCode, message: &str) -> Response {
    Response::Error(Refusal::new(code, message))
}

fn forbidden(uid: u32, right: Right) -> String {
    let key = match right {
        Right::Read => "read_uids",
        Right::Operate => "operate_uids",
        Right::Push => "push_uids",
    };
    format!("expected a user with this right, got uid {uid}; add it to [control] {key} and reload")
}

fn name_of(request: &Request) -> &'static str {
    match request {
        Request::Status {} => "status",
        Request::Reload {} => "reload",
        Request::Drain {} => "drain",
        Request::Upgrade {} => "upgrade",
        Request::Push { .. } => "push",
        Request::Identity { .. } => "identity",
        Request::Names { .. } => "names",
        Request::Capture(_) => "capture",
        Request::Stream { .. } => "stream",
    }
}

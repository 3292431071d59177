//! A web page on a host that says the host's name, for `curl` to fetch by name.

use super::MeshHost;
use crate::{Error, Result};
use std::io::{Read, Write};
use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// The port of the page.
const PORT: u16 = 8080;

/// How long a request may take to arrive: one that does not is not answered.
const REQUEST: Duration = Duration::from_secs(2);

/// Most bytes of a request that are read: what `curl` sends is below 200.
const REQUEST_MAX: usize = 1024;

/// A page that is served until this is dropped.
#[derive(Debug)]
pub struct Page {
    stop: Arc<AtomicBool>,
    listener: TcpListener,
    server: Option<JoinHandle<()>>,
}

impl Page {
    /// Serves the page on all addresses of `host`.
    ///
    /// # Errors
    /// [`Error::Io`] when the port is taken.
    pub fn serve(host: &MeshHost) -> Result<Self> {
        let bound =
            host.guest.namespace.enter(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT)))?;
        let listener = bound.map_err(Error::io("listen for a page"))?;
        let accepting = listener.try_clone().map_err(Error::io("duplicate a listener"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, name) = (Arc::clone(&stop), host.name.clone());
        let server = thread::spawn(move || {
            while let Ok((stream, _)) = accepting.accept() {
                if stopped.load(Ordering::Acquire) {
                    return;
                }
                // A client that goes away early is the client's failure, and curl reports it.
                let _ = answer(stream, &name);
            }
        });
        Ok(Self { stop, listener, server: Some(server) })
    }

    /// Where the page of a host is, by the host's name.
    #[must_use]
    pub fn address(host: &MeshHost) -> String {
        format!("http://{}:{PORT}/", host.domain_name())
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // Shutting a listener down wakes its accept, whatever the namespace.
        let _ = nix::sys::socket::shutdown(
            std::os::fd::AsRawFd::as_raw_fd(&self.listener),
            nix::sys::socket::Shutdown::Both,
        );
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

fn answer(mut stream: TcpStream, name: &str) -> std::io::Result<()> {
    stream.set_read_timeout(Some(REQUEST))?;
    let mut request = [0; REQUEST_MAX];
    let _length = stream.read(&mut request)?;
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close";
    write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{name}\n", name.len() + 1)
}

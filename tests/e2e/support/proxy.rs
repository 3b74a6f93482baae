//! A TCP proxy in front of a server, whose connections can be cut or stalled after so many bytes.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    thread,
    time::Duration,
};

/// What happens when the bytes are used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Connections are closed, and new ones as well, until [`Proxy::mend`].
    Cut,
    /// Nothing goes through any more, and nothing is closed.
    Stall,
}

/// A listening proxy.
pub(crate) struct Proxy {
    port: u16,
    state: Arc<State>,
}

struct State {
    /// Bytes that may still pass, in both directions together.
    left: AtomicI64,
    trouble: Trouble,
    mended: AtomicBool,
    /// Set when the proxy goes away.
    over: AtomicBool,
}

impl Proxy {
    /// In front of `port` on this machine; `bytes` pass before there is trouble.
    pub(crate) fn start(port: u16, bytes: u64, trouble: Trouble) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let own = listener.local_addr().expect("bound").port();
        let state = Arc::new(State {
            left: AtomicI64::new(i64::try_from(bytes).expect("few")),
            trouble,
            mended: AtomicBool::new(false),
            over: AtomicBool::new(false),
        });
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { return };
                if shared.over.load(Ordering::SeqCst) {
                    return;
                }
                if shared.is_troubled() && shared.trouble == Trouble::Cut {
                    continue;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else {
                    continue;
                };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to) = (from.try_clone(), to.try_clone());
                    let (Ok(from), Ok(to)) = (from, to) else {
                        continue;
                    };
                    let shared = Arc::clone(&shared);
                    thread::spawn(move || shared.pump(from, to));
                }
            }
        });
        Self { port: own, state }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Whether the bytes are used up.
    pub(crate) fn is_troubled(&self) -> bool {
        self.state.is_troubled()
    }

    /// Lets everything through from now on.
    pub(crate) fn mend(&self) {
        self.state.mended.store(true, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::SeqCst);
        // Wakes the listener.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl State {
    fn is_troubled(&self) -> bool {
        !self.mended.load(Ordering::SeqCst) && self.left.load(Ordering::SeqCst) <= 0
    }

    fn pump(&self, mut from: TcpStream, mut to: TcpStream) {
        let _ = from.set_read_timeout(Some(Duration::from_millis(20)));
        let mut buffer = vec![0; 64 << 10];
        loop {
            if self.over.load(Ordering::SeqCst) {
                break;
            }
            if self.is_troubled() {
                match self.trouble {
                    Trouble::Cut => break,
                    Trouble::Stall => {
                        thread::sleep(Duration::from_millis(5));
                        continue;
                    }
                }
            }
            let read = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    ) =>
                {
                    continue;
                }
                Err(_) => break,
            };
            self.left
                .fetch_sub(i64::try_from(read).expect("few"), Ordering::SeqCst);
            if to.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }
}

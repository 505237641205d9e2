//! A wire between a client and a server that a story cuts after so many octets, whatever they are.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// What is done where the wire is cut.
type Then = Box<dyn FnOnce() + Send>;

/// The wire.
pub(crate) struct Wire {
    port: u16,
    cut: Arc<Mutex<Option<Cut>>>,
}

struct Cut {
    /// Octets that still pass, in both directions together.
    left: usize,
    then: Option<Then>,
}

impl Wire {
    /// To this port of loopback; nothing cuts it yet.
    pub(crate) fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let cut = Arc::<Mutex<Option<Cut>>>::default();
        let shared = Arc::clone(&cut);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else {
                    return;
                };
                let ways = [(&client, &server), (&server, &client)];
                for (from, to) in ways.map(|(from, to)| (from.try_clone(), to.try_clone())) {
                    let (from, to, cut) = (from.unwrap(), to.unwrap(), Arc::clone(&shared));
                    thread::spawn(move || carry(from, to, &cut));
                }
            }
        });
        Self { port, cut }
    }

    /// Where clients connect to.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// After so many more octets does `then`, and carries nothing further until it is whole.
    pub(crate) fn cut_after(&self, octets: usize, then: impl FnOnce() + Send + 'static) {
        let then: Then = Box::new(then);
        *self.cut.lock().unwrap() = Some(Cut {
            left: octets,
            then: Some(then),
        });
    }

    /// Carries everything again; whether it had been cut.
    pub(crate) fn mend(&self) -> bool {
        let cut = self.cut.lock().unwrap().take();
        cut.is_some_and(|cut| cut.then.is_none())
    }
}

/// Carries octets one way until there are no more, or the wire is cut.
fn carry(mut from: TcpStream, mut to: TcpStream, cut: &Mutex<Option<Cut>>) {
    let mut buffer = [0; 4096];
    while let Ok(octets) = from.read(&mut buffer) {
        if octets == 0 {
            break;
        }
        let mut cut = cut.lock().unwrap();
        let passes = cut.as_ref().map_or(octets, |cut| cut.left.min(octets));
        if to.write_all(&buffer[..passes]).is_err() {
            break;
        }
        if let Some(cut) = &mut *cut {
            cut.left -= passes;
            if cut.left == 0 {
                if let Some(then) = cut.then.take() {
                    then();
                }
                break;
            }
        }
    }
    // Either end may have gone before.
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

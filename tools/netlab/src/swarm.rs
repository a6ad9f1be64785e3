//! Many short-lived TCP connections of all kinds: bulk in both directions, and requests with their responses.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};

use anyhow::{Context, Result, ensure};

use crate::namespace::Namespace;
use crate::random::Random;
use crate::traffic::{Blocks, STALL, outcome, receive_blocks, send_blocks};

/// Largest transfer is this power of two.
const LARGEST: u64 = 21;
/// Most requests of a connection.
const REQUESTS: u64 = 40;
/// Longest request and response.
const MESSAGE: u64 = 8 << 10;

/// What a swarm is made of.
#[derive(Debug, Clone, Copy)]
pub struct Swarm {
    /// Connections, one after the other, of each of those that open them.
    pub connections: u64,
    /// How many open connections at the same time.
    pub at_once: u64,
    /// What the connections are like; the same number makes the same ones.
    pub seed: u64,
}

/// What one connection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The opener sends so many bytes.
    Upload(u64),
    /// The opener gets so many.
    Download(u64),
    /// The opener asks so often; sizes of request and response.
    Requests { count: u64, request: u64, response: u64 },
}

impl Kind {
    fn random(random: &mut Random) -> Self {
        // All magnitudes are as likely, so that connections end before, while and long after they are handed over.
        let size = |random: &mut Random| {
            let magnitude = random.below(LARGEST);
            random.below(2 << magnitude) + 1
        };
        match random.below(4) {
            0 => Self::Upload(size(random)),
            1 => Self::Download(size(random)),
            _ => Self::Requests {
                count: random.below(REQUESTS) + 1,
                request: random.below(MESSAGE) + 1,
                response: random.below(MESSAGE) + 1,
            },
        }
    }
}

impl Kind {
    /// Such an opener waits for a greeting: Linux loses data that two cores take in at once with the end of the handshake
    /// (`tcp_check_req`), on any network.
    fn opener_speaks_first(self) -> bool {
        !matches!(self, Self::Download(_))
    }
}

impl Swarm {
    /// Opens all the connections from one namespace to `address` in the other. Every byte is compared; what fails first is told.
    pub fn run(&self, from: &Namespace, to: &Namespace, address: IpAddr) -> Result<()> {
        let listeners =
            (0..self.at_once).map(|_| to.run(|| TcpListener::bind((address, 0)))?.map_err(Into::into));
        let listeners = listeners.collect::<Result<Vec<_>>>()?;
        std::thread::scope(|scope| {
            let pairs: Vec<_> = (self.seed..)
                .zip(&listeners)
                .map(|(seed, listener)| {
                    let server = scope.spawn(move || self.serve(listener, seed));
                    (server, scope.spawn(move || self.open(*from, listener.local_addr()?, seed)))
                })
                .collect();
            for (server, client) in pairs {
                let ended = |result: std::thread::Result<Result<()>>| {
                    result.unwrap_or_else(|_| Err(anyhow::anyhow!("a thread panicked")))
                };
                outcome(ended(client.join()), ended(server.join()))
                    .with_context(|| format!("connections from {from} to {to}"))?;
            }
            Ok(())
        })
    }

    fn open(&self, from: Namespace, target: SocketAddr, seed: u64) -> Result<()> {
        from.run(|| {
            self.each(seed, |kind, blocks| {
                let mut stream = TcpStream::connect_timeout(&target, STALL).context("cannot connect")?;
                prepare(&stream)?;
                if kind.opener_speaks_first() {
                    stream.read_exact(&mut [0]).context("no greeting")?;
                }
                match kind {
                    Kind::Upload(bytes) => send_blocks(&mut stream, blocks, bytes),
                    Kind::Download(bytes) => receive_blocks(&mut stream, blocks, bytes),
                    Kind::Requests { count, request, response } => (0..count).try_for_each(|_| {
                        stream.write_all(&blocks.next()[..request as usize])?;
                        expect(&mut stream, blocks, response)
                    }),
                }?;
                finish(&mut stream)
            })
        })?
    }

    fn serve(&self, listener: &TcpListener, seed: u64) -> Result<()> {
        self.each(seed, |kind, blocks| {
            let mut stream = listener.accept()?.0;
            prepare(&stream)?;
            if kind.opener_speaks_first() {
                stream.write_all(&[0])?;
            }
            match kind {
                Kind::Upload(bytes) => receive_blocks(&mut stream, blocks, bytes),
                Kind::Download(bytes) => send_blocks(&mut stream, blocks, bytes),
                Kind::Requests { count, request, response } => (0..count).try_for_each(|_| {
                    expect(&mut stream, blocks, request)?;
                    Ok(stream.write_all(&blocks.next()[..response as usize])?)
                }),
            }?;
            finish(&mut stream)
        })
    }

    /// Both ends know what the next connection is.
    fn each(&self, seed: u64, mut work: impl FnMut(Kind, &mut Blocks) -> Result<()>) -> Result<()> {
        let (mut random, mut blocks) = (Random::new(seed), Blocks::new(seed));
        for number in 0..self.connections {
            let kind = Kind::random(&mut random);
            blocks.restart(number << 32);
            work(kind, &mut blocks).with_context(|| format!("connection {number}, {kind:?}"))?;
        }
        Ok(())
    }
}

fn prepare(stream: &TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(2 * STALL))?;
    Ok(stream.set_write_timeout(Some(2 * STALL))?)
}

/// Closes, and waits until the other end has as well. Linux loses a FIN that one core takes in while another closes its socket,
/// on any network, and the other end has to repeat it.
fn finish(stream: &mut TcpStream) -> Result<()> {
    // Whoever has sent a bulk has done so already.
    let _ = stream.shutdown(Shutdown::Write);
    ensure!(stream.read(&mut [0])? == 0, "more than was to come");
    Ok(())
}

fn expect(stream: &mut TcpStream, blocks: &mut Blocks, bytes: u64) -> Result<()> {
    let mut got = vec![0; bytes as usize];
    stream.read_exact(&mut got)?;
    ensure!(got == blocks.next()[..got.len()], "a message of {bytes} bytes arrived changed");
    Ok(())
}

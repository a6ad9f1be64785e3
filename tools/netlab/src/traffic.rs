//! Traffic that proves what arrived: streams and datagrams of pseudo-random bytes, compared with the same sequence at
//! the far end, so that a byte lost, doubled, moved or changed is found and its place told.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::namespace::Namespace;

/// No single step of a transfer may take longer.
pub(crate) const STALL: Duration = Duration::from_secs(10);
/// How long the answer to a datagram may take before it counts as lost.
const LOST: Duration = Duration::from_secs(2);
/// Bytes read or written at once.
pub(crate) const BLOCK: usize = 128 * 1024;

/// Blocks of pseudo-random bytes, the same for the same seed. They differ in their first eight bytes, the block's number;
/// the rest is made once, so that sending and comparing cost little beside the network.
pub(crate) struct Blocks {
    block: Vec<u8>,
    number: u64,
}

impl Blocks {
    pub(crate) fn new(seed: u64) -> Self {
        let mut block = vec![0; BLOCK];
        // xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled", 2016); zero is
        // its fixed point.
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        for word in block.chunks_exact_mut(8) {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            word.copy_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
        }
        Self { block, number: 0 }
    }

    /// Goes on with this number.
    pub(crate) fn restart(&mut self, number: u64) {
        self.number = number;
    }

    pub(crate) fn next(&mut self) -> &[u8] {
        self.block[..8].copy_from_slice(&self.number.to_be_bytes());
        self.number += 1;
        &self.block
    }
}

/// A transfer that arrived complete and unchanged.
#[derive(Debug, Clone, Copy)]
pub struct Transfer {
    /// Bytes of payload.
    pub bytes: u64,
    /// From the first write until the receiver had everything.
    pub elapsed: Duration,
}

impl Transfer {
    /// Payload bits per second, in units of 10⁹.
    #[allow(clippy::cast_precision_loss, reason = "a figure to look at")]
    pub fn gigabits_per_second(&self) -> f64 {
        self.bytes as f64 * 8.0 / self.elapsed.as_secs_f64() / 1e9
    }
}

/// Sends `bytes` by TCP from one namespace to `address` in the other, where every byte is compared.
pub fn tcp_transfer(from: &Namespace, to: &Namespace, address: IpAddr, bytes: u64) -> Result<Transfer> {
    let listener =
        to.run(|| TcpListener::bind((address, 0)))?.with_context(|| format!("cannot listen on {address}"))?;
    let target = listener.local_addr()?;
    let stream = from
        .run(|| TcpStream::connect_timeout(&target, STALL))?
        .with_context(|| format!("no TCP connection from {from} to {target}"))?;
    let seed = u64::from(target.port());
    std::thread::scope(|scope| {
        let far_end = scope.spawn(|| {
            let (stream, peer) = listener.accept()?;
            receive(stream, seed, bytes).with_context(|| format!("receiving in {to} from {peer}"))
        });
        let start = Instant::now();
        let sent = send(stream, seed, bytes).with_context(|| format!("sending from {from} to {target}"));
        let received = far_end.join().map_err(|_| anyhow::anyhow!("the receiver panicked"))?;
        outcome(sent, received)?;
        Ok(Transfer { bytes, elapsed: start.elapsed() })
    })
}

/// Of two ends that both failed, one did because of the other, and nobody can tell here which: what the receiver found
/// makes the sender's writes fail, and a sender that stops makes the receiver's stream end early. So both are told.
pub(crate) fn outcome(sent: Result<()>, received: Result<()>) -> Result<()> {
    match (sent, received) {
        (Err(sent), Err(received)) => bail!("{received:#}; {sent:#}"),
        (sent, received) => received.and(sent),
    }
}

fn send(mut stream: TcpStream, seed: u64, bytes: u64) -> Result<()> {
    stream.set_write_timeout(Some(STALL))?;
    stream.set_read_timeout(Some(STALL))?;
    send_blocks(&mut stream, &mut Blocks::new(seed), bytes)
}

/// Sends so many bytes and closes its direction; waits until the receiver confirms them.
pub(crate) fn send_blocks(stream: &mut TcpStream, blocks: &mut Blocks, bytes: u64) -> Result<()> {
    let mut left = bytes;
    while left > 0 {
        let part = usize::try_from(left).map_or(BLOCK, |left| left.min(BLOCK));
        stream.write_all(&blocks.next()[..part])?;
        left -= part as u64;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    // The receiver answers once it has everything, so that the other direction is proved too.
    let mut answer = [0; 8];
    stream.read_exact(&mut answer).context("no confirmation")?;
    ensure!(u64::from_be_bytes(answer) == bytes, "the confirmation names another number of bytes");
    Ok(())
}

fn receive(mut stream: TcpStream, seed: u64, bytes: u64) -> Result<()> {
    stream.set_read_timeout(Some(STALL))?;
    receive_blocks(&mut stream, &mut Blocks::new(seed), bytes)
}

/// Receives what [`send_blocks`] sends, compares it, and confirms it.
pub(crate) fn receive_blocks(stream: &mut TcpStream, blocks: &mut Blocks, bytes: u64) -> Result<()> {
    let mut got = vec![0; BLOCK];
    let mut offset = 0;
    loop {
        let mut filled = 0;
        while filled < BLOCK {
            match stream.read(&mut got[filled..]) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) => {
                    return Err(error)
                        .with_context(|| format!("after {} of {bytes} bytes", offset + filled as u64));
                }
            }
        }
        let expected = blocks.next();
        if got[..filled] != expected[..filled] {
            let wrong = (0..filled).find(|&i| got[i] != expected[i]).unwrap_or_default();
            bail!("byte {} of {bytes} is wrong", offset + wrong as u64);
        }
        offset += filled as u64;
        if filled < BLOCK {
            break;
        }
    }
    ensure!(offset == bytes, "the stream ended after {offset} of {bytes} bytes");
    stream.write_all(&bytes.to_be_bytes()).context("cannot confirm")
}

/// Connects by TCP from one namespace to `address` in the other, and tells the source address that arrives there.
pub fn source_seen(from: &Namespace, to: &Namespace, address: IpAddr) -> Result<IpAddr> {
    let listener = to.run(|| TcpListener::bind((address, 0)))??;
    let target = listener.local_addr()?;
    let _client = from
        .run(|| TcpStream::connect_timeout(&target, STALL))?
        .with_context(|| format!("no TCP connection from {from} to {target}"))?;
    Ok(listener.accept()?.1.ip())
}

/// Sends datagrams of these sizes, one after the other, from one namespace to `address` in the other, where each is sent
/// back. All must come back unchanged, none twice.
pub fn udp_echo(from: &Namespace, to: &Namespace, address: IpAddr, sizes: &[usize]) -> Result<()> {
    let server =
        to.run(|| UdpSocket::bind((address, 0)))?.with_context(|| format!("cannot bind {address}"))?;
    server.set_read_timeout(Some(LOST))?;
    let target = server.local_addr()?;
    let any: IpAddr = if address.is_ipv6() { [0; 16].into() } else { [0; 4].into() };
    let client = from.run(|| -> std::io::Result<UdpSocket> {
        let client = UdpSocket::bind((any, 0))?;
        client.connect(target)?;
        client.set_read_timeout(Some(LOST))?;
        Ok(client)
    })??;
    std::thread::scope(|scope| {
        let echo = scope.spawn(|| echo(&server, sizes.len()));
        for (number, &size) in sizes.iter().enumerate() {
            exchange(&client, number, size)
                .with_context(|| format!("datagram {number} of {size} bytes from {from} to {target}"))?;
        }
        echo.join()
            .map_err(|_| anyhow::anyhow!("the receiver panicked"))?
            .with_context(|| format!("echo in {to}"))
    })
}

fn exchange(client: &UdpSocket, number: usize, size: usize) -> Result<()> {
    let mut blocks = Blocks::new(number as u64);
    let sent = &blocks.next()[..size];
    client.send(sent)?;
    let mut got = vec![0; usize::from(u16::MAX)];
    let length = client.recv(&mut got).context("no answer")?;
    ensure!(got[..length] == *sent, "the answer differs from what was sent");
    Ok(())
}

fn echo(server: &UdpSocket, count: usize) -> Result<()> {
    let mut datagram = vec![0; usize::from(u16::MAX)];
    let mut peer: Option<SocketAddr> = None;
    for _ in 0..count {
        let (length, from) = server.recv_from(&mut datagram)?;
        ensure!(peer.is_none_or(|peer| peer == from), "the sender's address changed to {from}");
        peer = Some(from);
        server.send_to(&datagram[..length], from)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    //! A transfer notices every kind of damage, and only damage.
    use super::*;

    fn through(damage: impl Fn(&mut Vec<u8>)) -> Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (far_end, _) = listener.accept().unwrap();
        let mut blocks = Blocks::new(7);
        let mut bytes: Vec<u8> = (0..3).flat_map(|_| blocks.next().to_vec()).collect();
        bytes.truncate(300_000);
        let length = bytes.len() as u64;
        damage(&mut bytes);
        std::thread::scope(|scope| {
            let received = scope.spawn(|| receive(far_end, 7, length));
            let sent = sender.write_all(&bytes).and_then(|()| sender.shutdown(std::net::Shutdown::Write));
            let received = received.join().unwrap();
            // A receiver that found damage closes with data unread, which resets the connection under the sender, sooner
            // or later than its last call. One that was satisfied has read everything, and nothing failed.
            if received.is_ok() {
                sent.unwrap();
            }
            received
        })
    }

    #[test]
    fn the_error_names_the_end_that_failed_or_both() {
        let told = |sent, received| outcome(sent, received).unwrap_err().to_string();
        let failed = |what: &str| Err(anyhow::anyhow!("{what}"));
        outcome(Ok(()), Ok(())).unwrap();
        assert_eq!(told(failed("broken pipe"), Ok(())), "broken pipe");
        assert_eq!(told(Ok(()), failed("byte 5 is wrong")), "byte 5 is wrong");
        assert_eq!(told(failed("broken pipe"), failed("byte 5 is wrong")), "byte 5 is wrong; broken pipe");
    }

    #[test]
    fn what_arrives_whole_is_accepted() {
        through(|_| {}).unwrap();
    }

    #[test]
    fn damage_is_found_with_its_place() {
        let error = |damage: &dyn Fn(&mut Vec<u8>)| through(damage).unwrap_err().to_string();
        assert_eq!(error(&|b| b[200_001] ^= 1), "byte 200001 of 300000 is wrong");
        assert_eq!(error(&|b| b.truncate(1000)), "the stream ended after 1000 of 300000 bytes");
        assert!(
            error(&|b| {
                b.remove(100);
            })
            .starts_with("byte 100 of 300000 is wrong")
        );
        assert!(error(&|b| b.push(0)).contains("is wrong"));
        assert!(error(&|b| b.swap(40, 41)).starts_with("byte 40"));
        // Whole blocks in the wrong order differ in their numbers.
        let swapped = error(&|b| {
            let (first, second) = b.split_at_mut(BLOCK);
            first.swap_with_slice(&mut second[..BLOCK]);
        });
        assert_eq!(swapped, "byte 7 of 300000 is wrong");
    }
}

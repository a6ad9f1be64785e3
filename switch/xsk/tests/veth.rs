//! Packets cross a veth pair between two sockets, whole, in order, both ways; sockets come and go; no frame is lost.
//! Needs root.
#![allow(clippy::unwrap_used)]

mod common;

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{BPFFS, Batch, End, assert_all_home, ip, packet, sandbox, veth};
use heddle_bpf::{Steering, XdpMode};
use heddle_xsk::{Arena, Options, Socket, SocketFaults};

/// Sockets on both ends of a new veth pair.
fn ends(arena: &Arc<Arena>, steering: &mut Steering, names: [&str; 2], mtu: u32) -> [End; 2] {
    veth(names[0], names[1], mtu);
    names.map(|name| {
        let socket = Socket::bind(arena, name, 0, Options::default()).unwrap();
        assert_eq!(steering.attach_port(name, socket.as_fd()).unwrap(), XdpMode::Native);
        End::new(arena, socket)
    })
}

#[test]
fn packets_cross_both_ways_unchanged() {
    sandbox(|| {
        let arena = Arena::umem(2048, 2048).unwrap();
        let mut steering = Steering::open(BPFFS.as_ref()).unwrap();
        // The largest packet a frame holds, and an Ethernet header less is the MTU.
        let largest = arena.max_packet();
        let [mut a, mut b] = ends(&arena, &mut steering, ["xsk-a", "xsk-b"], largest as u32 - 14);
        let lengths = [60, 64, 590, 1514, largest];
        for round in 0..100 {
            let there: Vec<_> =
                (0..50).map(|n| packet(round * 100 + n, lengths[n as usize % lengths.len()])).collect();
            let back: Vec<_> = there.iter().rev().cloned().collect();
            a.send(&there);
            b.send(&back);
            assert_eq!(b.expect(there.len()), there);
            assert_eq!(a.expect(back.len()), back);
        }
        assert_eq!(arena.reserved() + a.held() + b.held(), arena.count() as usize);
        for end in [&a, &b] {
            assert_eq!(end.socket.faults(), SocketFaults::default());
            assert_eq!(end.socket.statistics().unwrap(), heddle_xsk::Statistics::default());
        }
        drop((a, b));
        assert_all_home(&arena);
    });
}

#[test]
fn a_packet_may_start_anywhere_in_its_frame() {
    sandbox(|| {
        let arena = Arena::umem(1024, 2048).unwrap();
        let mut steering = Steering::open(BPFFS.as_ref()).unwrap();
        let [mut a, mut b] = ends(&arena, &mut steering, ["xsk-a", "xsk-b"], 1500);
        let expected = packet(7, 1514);
        // Decapsulated, encapsulated, and at the very beginning of the chunk.
        let mut batch = Batch::new();
        for (strip, prepend) in [(50, 0), (0, 50), (0, 256), (200, 100)] {
            let mut frame = a.fill(&vec![0xff; 1514]);
            assert!(frame.strip(strip) && frame.prepend(prepend).is_some() && frame.set_len(1514));
            frame.bytes_mut().copy_from_slice(&expected);
            batch.push(frame);
        }
        a.socket.transmit(&mut a.pool, &mut batch);
        assert!(batch.is_empty());
        assert_eq!(b.expect(4), vec![expected; 4]);
        drop((a, b));
        assert_all_home(&arena);
    });
}

#[test]
fn a_packet_that_cannot_be_sent_is_counted_and_its_frame_kept() {
    sandbox(|| {
        let arena = Arena::umem(1024, 2048).unwrap();
        let mut steering = Steering::open(BPFFS.as_ref()).unwrap();
        let [mut a, mut b] = ends(&arena, &mut steering, ["xsk-a", "xsk-b"], 1500);
        let empty = a.fill(&[]);
        let runt = a.fill(&[0; 13]);
        // Fits the chunk, but not behind the place packets are sent from.
        let mut giant = a.fill(&[0; 1792]);
        assert!(giant.prepend(1).is_some());
        let good = a.fill(&packet(2, 60));
        let mut batch: Batch = [empty, runt, giant, good].into_iter().collect();
        let held = a.held() + batch.len();
        a.socket.transmit(&mut a.pool, &mut batch);
        assert!(batch.is_empty());
        assert_eq!(b.expect(1), [packet(2, 60)]);
        assert_eq!(a.socket.faults(), SocketFaults { unsendable: 3, ..SocketFaults::default() });
        assert_eq!(a.held(), held);
        drop((a, b));
        assert_all_home(&arena);
    });
}

#[test]
fn what_the_kernel_drops_is_counted_once() {
    sandbox(|| {
        let arena = Arena::umem(1024, 2048).unwrap();
        let mut steering = Steering::open(BPFFS.as_ref()).unwrap();
        let mtu = 3000;
        veth("xsk-a", "xsk-b", mtu);
        let options = Options { receive_frames: 16, ..Options::default() };
        let [mut a, mut b] = ["xsk-a", "xsk-b"].map(|name| {
            let socket = Socket::bind(&arena, name, 0, options).unwrap();
            steering.attach_port(name, socket.as_fd()).unwrap();
            End::new(&arena, socket)
        });
        // 16 frames and 40 packets: the rest finds no frame.
        let packets: Vec<_> = (0..40).map(|n| packet(n, 64)).collect();
        a.send(&packets);
        // All have to have come before the first is read: reading gives the kernel frames to receive into again.
        let deadline = Instant::now() + Duration::from_secs(10);
        while b.socket.statistics().unwrap().rx_no_frame < 24 && Instant::now() < deadline {
            thread::yield_now();
        }
        assert_eq!(b.expect(16), packets[..16]);
        let statistics = b.socket.statistics().unwrap();
        assert_eq!((statistics.rx_no_frame, statistics.rx_dropped, statistics.rx_ring_full), (24, 0, 0));
        drop((a, b));
        assert_all_home(&arena);
    });
}

/// One end echoes on its own thread for as long as `running`.
fn echo(mut end: End, running: &AtomicBool, echoed: &AtomicU64) -> End {
    while running.load(Ordering::Relaxed) {
        let mut batch = Batch::new();
        end.socket.receive(&mut end.pool, &mut batch);
        echoed.fetch_add(batch.len() as u64, Ordering::Relaxed);
        while !batch.is_empty() {
            end.socket.transmit(&mut end.pool, &mut batch);
        }
        end.socket.reap(&mut end.pool);
        thread::yield_now();
    }
    end
}

#[test]
fn sockets_come_and_go_while_another_forwards() {
    sandbox(|| {
        let arena = Arena::umem(4096, 2048).unwrap();
        let mut steering = Steering::open(BPFFS.as_ref()).unwrap();
        let [mut a, b] = ends(&arena, &mut steering, ["xsk-a", "xsk-b"], 1500);
        veth("xsk-c", "xsk-d", 1500);
        let (running, echoed) = (AtomicBool::new(true), AtomicU64::new(0));
        let b = thread::scope(|scope| {
            let echoing = scope.spawn(|| echo(b, &running, &echoed));
            // Stops the echo also when an assertion below fails.
            let stop = scope_guard(&running);
            for round in 0..50 {
                let [mut c, mut d] = ["xsk-c", "xsk-d"].map(|name| {
                    let socket = Socket::bind(&arena, name, 0, Options::default()).unwrap();
                    steering.attach_port(name, socket.as_fd()).unwrap();
                    End::new(&arena, socket)
                });
                let packets: Vec<_> = (0..20).map(|n| packet(round * 100 + n, 500)).collect();
                a.send(&packets);
                c.send(&packets);
                assert_eq!(d.expect(20), packets, "round {round}");
                assert_eq!(a.expect(20), packets, "the other pair, round {round}");
                // Some on their way when the sockets close.
                d.send(&packets);
                if round % 2 == 0 {
                    steering.detach_port("xsk-c").unwrap();
                }
            }
            drop(stop);
            echoing.join().unwrap()
        });
        assert_eq!(echoed.load(Ordering::Relaxed), 50 * 20);
        assert_eq!(arena.reserved() + arena.quarantined() + a.held() + b.held(), arena.count() as usize);
        for end in [&a, &b] {
            assert_eq!(end.socket.faults(), SocketFaults::default());
        }
        drop((a, b));
        assert_all_home(&arena);
    });
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

fn scope_guard(running: &AtomicBool) -> StopOnDrop<'_> {
    StopOnDrop(running)
}

#[test]
fn a_socket_survives_its_interface() {
    sandbox(|| {
        let arena = Arena::umem(1024, 2048).unwrap();
        let mut steering = Steering::open(BPFFS.as_ref()).unwrap();
        let [mut a, mut b] = ends(&arena, &mut steering, ["xsk-a", "xsk-b"], 1500);
        ip("link del xsk-a");
        let mut batch: Batch = (0..10).map(|n| a.fill(&packet(n, 60))).collect();
        a.socket.transmit(&mut a.pool, &mut batch);
        assert!(b.receive().is_empty());
        let kept: Vec<_> = batch.drain(..).collect();
        for frame in kept {
            a.pool.put(frame);
        }
        steering.detach_port("xsk-a").unwrap();
        steering.detach_port("xsk-b").unwrap();
        drop(a);
        // The same names again, other interfaces.
        drop(b);
        let [mut a, mut b] = ends(&arena, &mut steering, ["xsk-a", "xsk-b"], 1500);
        a.send(&[packet(1, 60)]);
        assert_eq!(b.expect(1), [packet(1, 60)]);
        drop((a, b));
        thread::sleep(Duration::from_millis(1));
        assert_all_home(&arena);
    });
}

//! A hash over what makes packets one flow.

use std::net::IpAddr;

/// Odd constants with well-mixed bits: the fractional parts of the square roots of 2, 3 and 5 (as in FIPS 180-4).
const SEEDS: [u64; 3] = [0x6a09_e667_f3bc_c909, 0xbb67_ae85_84ca_a73b, 0x3c6e_f372_fe94_f82b];

/// A number that is the same for all packets of a flow and differs between most flows.
///
/// `ports` is 0 for what has none, fragments among them: all pieces of a packet must hash alike. The hash spreads load
/// over paths; it is no defence against somebody who picks colliding flows on purpose.
#[inline]
pub fn hash(source: IpAddr, destination: IpAddr, protocol: u8, ports: u32) -> u64 {
    let [seed_a, seed_b, seed_c] = SEEDS;
    let rest = (u64::from(ports) << 8) | u64::from(protocol);
    let addresses = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            (u64::from(u32::from(source)) << 32) | u64::from(u32::from(destination))
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            fold_halves(u128::from(source), seed_a) ^ fold_halves(u128::from(destination), seed_b)
        }
        _ => 0,
    };
    fold(addresses ^ seed_b, rest ^ seed_c)
}

#[inline]
fn fold_halves(address: u128, seed: u64) -> u64 {
    fold((address >> 64) as u64 ^ seed, address as u64 ^ seed.rotate_left(32))
}

/// Multiplies to 128 bits and lays the halves over each other, so that every input bit reaches every output bit.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}

/// Source and destination port as one number, from the start of a TCP, UDP or SCTP header.
#[inline]
pub fn ports(transport: &[u8]) -> u32 {
    transport.first_chunk().map_or(0, |ports| u32::from_be_bytes(*ports))
}

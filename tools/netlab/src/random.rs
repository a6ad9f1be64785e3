//! Random choices that a number makes again.

/// A sequence of random numbers, the same for the same seed: `SplitMix64` (Steele, Lea and Flood, "Fast splittable pseudorandom
/// number generators", 2014). Good enough to choose by, and the same on every machine and in every version.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// That of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// From 0 to below `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        // Taken from the top; the bias is below 2^-32 for all that is chosen here.
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }

    /// One of these, which are some.
    pub fn choose<'t, T>(&mut self, from: &'t [T]) -> &'t T {
        &from[self.below(from.len() as u64) as usize]
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}

#[cfg(test)]
mod tests {
    //! A seed makes the same choices again, and all choices come.
    use super::*;

    #[test]
    fn the_same_seed_chooses_the_same() {
        let all = |seed| {
            let mut random = Random::new(seed);
            (0..100).map(|_| random.below(10)).collect::<Vec<_>>()
        };
        assert_eq!(all(7), all(7));
        assert_ne!(all(7), all(8));
        assert!((0..10).all(|choice| all(7).contains(&choice)));
    }
}

//! The policy image on disk: what a restart of the switch puts in force until an agent sends another.
//!
//! The image's decoder finds everything that would lead a lookup astray, but a bitmap with a wrong bit is a bitmap. So the file
//! has a checksum, which an image on the socket needs not.

use std::time::{Duration, SystemTime};

use heddle_image::Image;

use super::persist::{PersistError, Store};

const FILE: &str = "policy.image";
/// In front of the file, with the version of its format.
const MAGIC: [u8; 8] = *b"HDPolic1";
/// Magic, seconds since 1970, CRC-32 of the image; then the image.
const HEADER: usize = 8 + 8 + 4;

/// An image as an agent sent it.
#[derive(Debug)]
pub struct SavedImage {
    pub(super) received: SystemTime,
    pub(super) bytes: Vec<u8>,
}

impl Store {
    /// Writes an image in place of the one before.
    pub fn save_image(&self, image: &SavedImage) -> Result<(), PersistError> {
        let received = image.received.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let checksum = crc32fast::hash(&image.bytes);
        let header = [&MAGIC[..], &received.to_le_bytes(), &checksum.to_le_bytes()].concat();
        self.replace(FILE, &[&header, &image.bytes])
    }

    /// The image that was written last, and when it came from an agent.
    pub(super) fn load_image(&self) -> Result<Option<(Image, SystemTime)>, PersistError> {
        let Some(bytes) = self.read(FILE)? else { return Ok(None) };
        let damaged = |error: String| PersistError::Image { path: self.path(FILE), error };
        let (received, image) = open(&bytes).map_err(|problem| damaged(problem.to_owned()))?;
        let image = Image::decode(image).map_err(|error| damaged(error.to_string()))?;
        Ok(Some((image, received)))
    }
}

/// Takes the header off, if all is as it was written.
fn open(bytes: &[u8]) -> Result<(SystemTime, &[u8]), &'static str> {
    let Some((header, image)) = bytes.split_at_checked(HEADER) else { return Err("it is too short") };
    let (magic, rest) = header.split_at(8);
    let (received, checksum) = rest.split_at(8);
    if magic != MAGIC {
        return Err("it is of another kind or version");
    }
    if checksum != crc32fast::hash(image).to_le_bytes() {
        return Err("its checksum is wrong");
    }
    let seconds = received.iter().rev().fold(0, |number, octet| number << 8 | u64::from(*octet));
    let received = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    Ok((received.ok_or("its time is impossible")?, image))
}

#[cfg(test)]
mod tests {
    //! What was written is read back; every damage is noticed.
    use super::*;

    fn sample() -> SavedImage {
        let mut image = Image::default();
        image.set_pod([10, 0, 0, 1].into(), heddle_image::PeerClass(7));
        let received = SystemTime::UNIX_EPOCH + Duration::from_hours(500_000);
        SavedImage { received, bytes: image.encode() }
    }

    #[test]
    fn round_trips() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        assert!(store.load_image().unwrap().is_none());
        store.save_image(&sample()).unwrap();
        let (image, received) = store.load_image().unwrap().unwrap();
        assert_eq!((image.encode(), received), (sample().bytes, sample().received));
    }

    #[test]
    fn every_damage_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        store.save_image(&sample()).unwrap();
        let file = store.path(FILE);
        let whole = std::fs::read(&file).unwrap();
        // The time is not covered: it is shown, and nothing depends on it.
        for at in (0..8).chain(16..whole.len()) {
            let mut damaged = whole.clone();
            damaged[at] ^= 4;
            std::fs::write(&file, damaged).unwrap();
            let error = store.load_image().unwrap_err();
            assert!(error.to_string().contains("policy.image"), "{error}");
        }
        for length in 0..whole.len() {
            std::fs::write(&file, &whole[..length]).unwrap();
            assert!(store.load_image().is_err(), "{length}");
        }
    }
}

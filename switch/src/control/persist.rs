//! What survives the daemon: the endpoints and the routes, one file each. The policy image is a third (`saved_image`),
//! the kernel's settings as they were before a fourth (`forwarding`).
//!
//! A file is written beside its place, synced, and renamed into it, so that whoever reads it finds all of the old or
//! all of the new. Each carries the version of its format.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use heddle_api::{Route, Vtep};
use ipnet::IpNet;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::endpoints::EndpointSpec;
use super::remote::{Remotes, VtepSpec};
use crate::tables::EndpointNumber;

/// Format of the files. A change that older daemons misread gets a new number.
const VERSION: u32 = 1;

/// Why state cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PersistError {
    /// The file system does not do it.
    #[error("cannot {verb} {}: {error}; check the disk and the rights on state_dir", path.display())]
    Io {
        /// What was tried.
        verb: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// It is not what was written.
    #[error(
        "{} is damaged ({error}); move it away and restart: pods that are there then have to be added again",
        path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: String,
    },
    /// The policy image is not what was written. Nothing is lost with it: an agent sends another.
    #[error("{} is damaged ({error})", path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: String,
    },
    /// It was written by a newer daemon.
    #[error(
        "{} has format {found}, this heddle-switch reads up to {VERSION}; start the newer one again, or move the file away",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
}

/// An endpoint as it is written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedEndpoint {
    #[serde(flatten)]
    pub(super) spec: EndpointSpec,
    pub(super) number: EndpointNumber,
    pub(super) interface_index: u32,
}

/// The other nodes as they are written down.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedRoutes {
    pub(super) vteps: Vec<SavedVtep>,
    pub(super) routes: Vec<SavedRoute>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedVtep {
    node: String,
    #[serde(flatten)]
    vtep: VtepSpec,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedRoute {
    prefix: IpNet,
    node: String,
}

impl SavedRoutes {
    /// As a request would say it.
    pub(super) fn into_messages(self) -> (Vec<Vtep>, Vec<Route>) {
        let vtep = |SavedVtep { node, vtep }: SavedVtep| Vtep {
            node,
            address: vtep.address.to_string(),
            mac: vtep.mac.to_string(),
        };
        let route = |SavedRoute { prefix, node }: SavedRoute| Route { prefix: prefix.to_string(), node };
        (self.vteps.into_iter().map(vtep).collect(), self.routes.into_iter().map(route).collect())
    }
}

/// A file's content, with its version in front.
#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    version: u32,
    content: T,
}

/// The directory of the files.
#[derive(Debug, Clone)]
pub struct Store {
    directory: PathBuf,
}

impl Store {
    /// The files below `state_dir`, whose directory is made if it is not there.
    pub fn open(state_dir: &Path) -> Result<Self, PersistError> {
        let directory = state_dir.join("switch");
        fs::create_dir_all(&directory).map_err(|error| io_error("create", &directory, error))?;
        Ok(Self { directory })
    }

    pub(super) fn save_endpoints(&self, endpoints: Vec<SavedEndpoint>) -> Result<(), PersistError> {
        self.save("endpoints.json", endpoints)
    }

    pub(super) fn load_endpoints(&self) -> Result<Vec<SavedEndpoint>, PersistError> {
        Ok(self.load("endpoints.json")?.unwrap_or_default())
    }

    pub(super) fn save_routes(&self, remotes: &Remotes) -> Result<(), PersistError> {
        let vtep = |(node, remote): (&String, &super::remote::RemoteNode)| SavedVtep {
            node: node.clone(),
            vtep: remote.vtep,
        };
        let mut routes: Vec<_> = remotes
            .routes()
            .map(|(prefix, node)| SavedRoute { prefix: *prefix, node: node.clone() })
            .collect();
        routes.sort_unstable_by_key(|route| route.prefix);
        self.save("routes.json", SavedRoutes { vteps: remotes.nodes().map(vtep).collect(), routes })
    }

    pub(super) fn load_routes(&self) -> Result<Option<SavedRoutes>, PersistError> {
        self.load("routes.json")
    }

    fn save<T: Serialize>(&self, name: &str, content: T) -> Result<(), PersistError> {
        let text = serde_json::to_vec_pretty(&Versioned { version: VERSION, content })
            .map_err(|error| io_error("write", &self.path(name), error.into()))?;
        self.replace(name, &[&text])
    }

    /// Puts a file with this content in place of the one before, whole or not at all.
    pub(super) fn replace(&self, name: &str, content: &[&[u8]]) -> Result<(), PersistError> {
        let (path, beside) = (self.path(name), self.path(&format!("{name}.new")));
        let replace = || {
            let mut file = File::create(&beside)?;
            content.iter().try_for_each(|part| file.write_all(part))?;
            // The name must not point to content that a power cut can still take away, nor the directory lose the name.
            file.sync_all()?;
            fs::rename(&beside, &path)?;
            File::open(&self.directory)?.sync_all()
        };
        replace().map_err(|error| io_error("write", &path, error))
    }

    /// A file's content; `None` if there is no such file.
    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, PersistError> {
        let path = self.path(name);
        match fs::read(&path) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("read", &path, error)),
        }
    }

    /// What is saved in a small file of its own; the default if nothing is.
    pub(super) fn load_or_default<T: DeserializeOwned + Default>(
        &self,
        name: &str,
    ) -> Result<T, PersistError> {
        Ok(self.load(name)?.unwrap_or_default())
    }

    /// Saves that.
    pub(super) fn save_as<T: Serialize>(&self, name: &str, content: T) -> Result<(), PersistError> {
        self.save(name, content)
    }

    /// Removes a file, if it is there.
    pub(super) fn remove(&self, name: &str) -> Result<(), PersistError> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", &path, error)),
            _ => Ok(()),
        }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn load<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, PersistError> {
        let Some(text) = self.read(name)? else { return Ok(None) };
        let path = self.path(name);
        let corrupt =
            |error: serde_json::Error| PersistError::Corrupt { path: path.clone(), error: error.to_string() };
        // The version first: what follows it in a newer file is anybody's guess.
        let head: Versioned<serde::de::IgnoredAny> = serde_json::from_slice(&text).map_err(corrupt)?;
        if head.version > VERSION {
            return Err(PersistError::Newer { path, found: head.version });
        }
        let file: Versioned<T> = serde_json::from_slice(&text).map_err(corrupt)?;
        Ok(Some(file.content))
    }
}

fn io_error(verb: &'static str, path: &Path, error: io::Error) -> PersistError {
    PersistError::Io { verb, path: path.to_owned(), error }
}

/// Values that are written as their text.
pub(super) mod as_text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(crate) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    //! What was written is read back; half-written, damaged and newer files do no harm and say what to do.
    use super::super::bandwidth::{self, Bandwidth};
    use super::super::ports::{PortMapping, Transport};
    use super::*;

    fn endpoint(id: &str) -> SavedEndpoint {
        let spec = EndpointSpec {
            id: id.into(),
            host_interface: "hd1".into(),
            mac: "02:00:00:00:00:05".parse().unwrap(),
            addresses: vec!["10.244.1.5".parse().unwrap(), "fd00::5".parse().unwrap()],
            pod_namespace: "default".into(),
            pod_name: "web".into(),
            mtu: 1450,
            attach: crate::tables::AttachMode::Cached,
            port_mappings: vec![PortMapping {
                protocol: Transport::Udp,
                host_port: 53,
                pod_port: 5353,
                host_address: Some("172.31.0.1".parse().unwrap()),
            }],
            bandwidth: bandwidth::parse(Some(heddle_api::Bandwidth {
                ingress_rate: 1_000_000,
                ..heddle_api::Bandwidth::default()
            }))
            .unwrap(),
        };
        SavedEndpoint { spec, number: 3, interface_index: 12 }
    }

    fn store() -> (tempfile::TempDir, Store, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let file = directory.path().join("switch/endpoints.json");
        (directory, store, file)
    }

    #[test]
    fn round_trips() {
        let (_directory, store, _) = store();
        assert_eq!(store.load_endpoints().unwrap(), []);
        store.save_endpoints(vec![endpoint("a/eth0"), endpoint("b/eth0")]).unwrap();
        assert_eq!(store.load_endpoints().unwrap(), [endpoint("a/eth0"), endpoint("b/eth0")]);
    }

    #[test]
    fn what_an_older_switch_wrote_is_read() {
        let (_directory, store, file) = store();
        let old = br#"{"version": 1, "content": [{"id": "a/eth0", "host_interface": "hd1", "mac": "02:00:00:00:00:05",
            "addresses": ["10.244.1.5", "fd00::5"], "pod_namespace": "default", "pod_name": "web", "mtu": 1450,
            "number": 3, "interface_index": 12}]}"#;
        fs::write(&file, old).unwrap();
        let [read] = store.load_endpoints().unwrap().try_into().unwrap();
        let mut expected = endpoint("a/eth0");
        expected.spec.attach = crate::tables::AttachMode::Direct;
        expected.spec.port_mappings.clear();
        expected.spec.bandwidth = Bandwidth::default();
        assert_eq!(read, expected);
    }

    #[test]
    fn a_crash_while_writing_leaves_the_old_content() {
        let (_directory, store, file) = store();
        store.save_endpoints(vec![endpoint("a/eth0")]).unwrap();
        // As a crash between write and rename leaves it.
        fs::write(file.with_extension("json.new"), b"{\"version\": 1, \"cont").unwrap();
        assert_eq!(store.load_endpoints().unwrap(), [endpoint("a/eth0")]);
        store.save_endpoints(vec![endpoint("b/eth0")]).unwrap();
        assert_eq!(store.load_endpoints().unwrap(), [endpoint("b/eth0")]);
    }

    #[test]
    fn damage_is_reported_not_guessed_at() {
        let (_directory, store, file) = store();
        store.save_endpoints(vec![endpoint("a/eth0")]).unwrap();
        let whole = fs::read(&file).unwrap();
        for damaged in
            [&whole[..whole.len() / 2], b"", b"[]", b"{\"version\": 1, \"content\": [{\"id\": 3}]}"]
        {
            fs::write(&file, damaged).unwrap();
            let error = store.load_endpoints().unwrap_err();
            assert!(matches!(error, PersistError::Corrupt { .. }), "{error}");
            assert!(error.to_string().contains("move it away"), "{error}");
        }
    }

    #[test]
    fn a_newer_format_is_left_alone() {
        let (_directory, store, file) = store();
        fs::write(&file, b"{\"version\": 2, \"content\": {\"pods\": []}}").unwrap();
        let error = store.load_endpoints().unwrap_err();
        assert!(matches!(error, PersistError::Newer { found: 2, .. }), "{error}");
    }

    #[test]
    fn a_full_disk_is_reported() {
        let (directory, store, _) = store();
        fs::remove_dir_all(directory.path().join("switch")).unwrap();
        let error = store.save_endpoints(vec![]).unwrap_err();
        assert!(error.to_string().contains("endpoints.json"), "{error}");
    }
}

//! What the lab's agents are told of its pods: a directory of the user's, and one of the lab's own.
//!
//! The lab writes a Pod for each of its pods, so that policies can select it and every node knows its addresses. A Pod of that
//! name in the user's directory says what the pod is; the lab then adds only where it is (`status.podIPs`), which
//! heddle-agent puts together.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use heddle_policy::manifests::{Located, ManifestFile, files};
use heddle_policy::model::Object;

use crate::names::Name;

/// Namespace of pods that nobody says otherwise of.
const NAMESPACE: &str = "default";

/// The directories of a lab.
#[derive(Debug, Clone)]
pub(crate) struct Directories {
    /// Where policies, and whatever else there is to say, are put.
    pub(crate) users: PathBuf,
    /// The lab's own.
    pub(crate) own: PathBuf,
}

/// The pods that the user's directory describes, by name.
#[derive(Debug, Default)]
pub(crate) struct Described(BTreeMap<String, Description>);

/// What the lab needs to know of a pod that the user describes.
#[derive(Debug, Clone)]
struct Description {
    namespace: String,
    annotations: Annotations,
}

/// Annotations of a pod.
pub(crate) type Annotations = BTreeMap<String, String>;

impl Directories {
    /// Those of the lab below `lab_dir`; `users` is a directory the user named.
    pub(crate) fn of(lab_dir: &Path, users: Option<&Path>) -> Self {
        let users = users.map_or_else(|| lab_dir.join("manifests"), Path::to_owned);
        Self { users, own: lab_dir.join("pods") }
    }

    /// Makes those that are the lab's to make.
    pub(crate) fn prepare(&self, lab_dir: &Path) -> Result<()> {
        for dir in [&self.users, &self.own].into_iter().filter(|dir| dir.starts_with(lab_dir)) {
            std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        Ok(())
    }

    /// The pods of the lab that the user's directory describes. What is wrong there is the agents' to report.
    pub(crate) fn described(&self) -> Result<Described> {
        let mut described = BTreeMap::<String, Description>::new();
        let files = files(&self.users)?.files;
        for Located { object, annotations, .. } in
            files.iter().filter_map(|path| ManifestFile::read(path).ok()).flat_map(|file| file.objects)
        {
            let Object::Pod(pod) = object else { continue };
            let (namespace, name) = (pod.name.namespace, pod.name.name);
            let in_lab = matches!(name.parse(), Ok(Name::Pod(..)));
            // The first definition holds, as for the agents.
            let first = described
                .entry(name.clone())
                .or_insert_with(|| Description { namespace: namespace.clone(), annotations });
            ensure!(
                first.namespace == namespace || !in_lab,
                "{} has a Pod {name} in namespace {} and in {namespace}: the lab has one pod of that name",
                self.users.display(),
                first.namespace
            );
        }
        Ok(Described(described))
    }

    /// Says what a pod is before it is there, unless the user does.
    pub(crate) fn announce(&self, pod: Name, described: &Described) -> Result<()> {
        if described.has(pod) { Ok(()) } else { self.write(pod, NAMESPACE, &[]) }
    }

    /// Says where a pod is.
    pub(crate) fn place(&self, pod: Name, namespace: &str, addresses: &[IpAddr]) -> Result<()> {
        self.write(pod, namespace, addresses)
    }

    /// Forgets a pod.
    pub(crate) fn remove(&self, pod: Name) -> Result<()> {
        let path = self.path(pod);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    fn path(&self, pod: Name) -> PathBuf {
        self.own.join(format!("{pod}.yaml"))
    }

    /// Whole or not at all: it is being watched.
    fn write(&self, pod: Name, namespace: &str, addresses: &[IpAddr]) -> Result<()> {
        let (path, beside) = (self.path(pod), self.own.join(format!(".{pod}.new")));
        std::fs::write(&beside, manifest(pod, namespace, addresses)?)
            .and_then(|()| std::fs::rename(&beside, &path))
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

impl Described {
    fn has(&self, pod: Name) -> bool {
        self.0.contains_key(&pod.to_string())
    }

    /// The namespace of a pod, as the plugin is to hear it.
    pub(crate) fn namespace(&self, pod: Name) -> &str {
        self.0.get(&pod.to_string()).map_or(NAMESPACE, |description| &description.namespace)
    }

    /// The annotations of a pod, as a runtime hands them to the plugin.
    pub(crate) fn annotations(&self, pod: Name) -> Annotations {
        self.0.get(&pod.to_string()).map(|description| description.annotations.clone()).unwrap_or_default()
    }
}

fn manifest(pod: Name, namespace: &str, addresses: &[IpAddr]) -> Result<String> {
    let Name::Pod(node, _) = pod else { bail!("'{pod}' is not a pod's name") };
    let node = Name::Node(node);
    let mut text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {pod}, namespace: {namespace}, labels: {{pod: {pod}, node: {node}}}}}\n\
         spec: {{nodeName: {node}, containers: []}}\n"
    );
    if !addresses.is_empty() {
        text.push_str("status:\n  podIPs:\n");
        for address in addresses {
            writeln!(text, "  - ip: \"{address}\"")?;
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    //! The agent, which reads both directories, gets each pod once: as the user describes it, where the lab has put it.
    use heddle_policy::manifests::{ManifestFile, combine};
    use heddle_policy::model::Object;

    use super::*;

    const ADDRESSES: [&str; 2] = ["10.244.1.2", "fd00:10:244:1::2"];

    fn directories(users: &str) -> (tempfile::TempDir, Directories) {
        let dir = tempfile::tempdir().unwrap();
        let directories = Directories::of(dir.path(), None);
        directories.prepare(dir.path()).unwrap();
        std::fs::write(directories.users.join("pods.yaml"), users).unwrap();
        (dir, directories)
    }

    /// As the agent reads them.
    fn pods(directories: &Directories) -> Vec<heddle_policy::model::Pod> {
        let mut files = Vec::new();
        for dir in [&directories.users, &directories.own] {
            for path in heddle_policy::manifests::files(dir).unwrap().files {
                let file = ManifestFile::read(&path).unwrap();
                assert_eq!(file.findings, []);
                files.push((path, file.objects));
            }
        }
        let combined = combine(files.iter().map(|(path, objects)| (path.as_path(), objects.as_slice())));
        assert_eq!(combined.findings, []);
        let pod = |object| if let Object::Pod(pod) = object { Some(pod) } else { None };
        combined.objects.into_values().filter_map(pod).collect()
    }

    #[test]
    fn pods_are_announced_placed_and_forgotten() {
        let (_dir, directories) = directories("");
        let name = Name::Pod(1, 2);
        let described = directories.described().unwrap();
        directories.announce(name, &described).unwrap();
        assert!(pods(&directories)[0].addresses.is_empty());
        let addresses = ADDRESSES.map(|address| address.parse().unwrap());
        directories.place(name, described.namespace(name), &addresses).unwrap();
        let [pod] = &pods(&directories)[..] else { panic!() };
        assert_eq!(pod.name.to_string(), "default/n1p2");
        assert_eq!((pod.labels["pod"].as_str(), pod.labels["node"].as_str()), ("n1p2", "n1"));
        assert_eq!((pod.node.as_deref(), &pod.addresses[..]), (Some("n1"), &addresses[..]));
        directories.remove(name).unwrap();
        directories.remove(name).unwrap();
        assert_eq!(pods(&directories), []);
    }

    #[test]
    fn what_the_user_says_holds() {
        let (_dir, directories) = directories(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  {name: n1p1, namespace: shop, labels: {app: web}, annotations: {heddle.io/attach: cached}}\n",
        );
        let name = Name::Pod(1, 1);
        let described = directories.described().unwrap();
        assert_eq!(described.namespace(name), "shop");
        assert_eq!(described.annotations(name)["heddle.io/attach"], "cached");
        assert!(described.annotations(Name::Pod(1, 2)).is_empty());
        directories.announce(name, &described).unwrap();
        assert_eq!(pods(&directories).len(), 1);
        let addresses = ADDRESSES.map(|address| address.parse().unwrap());
        directories.place(name, "shop", &addresses).unwrap();
        let [pod] = &pods(&directories)[..] else { panic!() };
        assert_eq!((pod.name.to_string().as_str(), pod.labels["app"].as_str()), ("shop/n1p1", "web"));
        assert_eq!((pod.labels.len(), &pod.addresses[..]), (1, &addresses[..]));
    }

    #[test]
    fn one_pod_has_one_namespace() {
        let pod = |namespace| {
            format!("---\napiVersion: v1\nkind: Pod\nmetadata: {{name: n1p1, namespace: {namespace}}}\n")
        };
        let (_dir, directories) = directories(&(pod("a") + &pod("b")));
        let error = directories.described().unwrap_err().to_string();
        assert!(error.contains("n1p1 in namespace a and in b"), "{error}");
    }
}

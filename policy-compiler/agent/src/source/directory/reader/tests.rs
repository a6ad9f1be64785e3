//! A look says what changed; mistakes, half-written files and files that are moved about open nothing.

use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

fn policy(name: &str) -> String {
    format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}}}\nspec: {{podSelector: {{}}}}\n"
    )
}

struct Shelf {
    directory: TempDir,
    reader: Reader,
}

impl Shelf {
    fn new(files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let reader = Reader::new(vec![directory.path().to_owned()]);
        let mut shelf = Self { directory, reader };
        for (name, text) in files {
            shelf.write(name, text);
        }
        shelf.look();
        shelf
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&mut self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    /// Looks, until nothing is missing only perhaps; returns what changed, in words.
    fn look(&mut self) -> Vec<String> {
        let mut said = Vec::new();
        loop {
            let scan = self.reader.scan(self.reader.list());
            said.extend(scan.changes.iter().map(|change| match change {
                Change::Set(object) => format!("+{}", object.key().name.name),
                Change::Remove(key) => format!("-{}", key.name.name),
            }));
            if !scan.again {
                return said;
            }
            std::thread::sleep(GONE_AFTER);
        }
    }

    fn scan(&mut self) -> Scan {
        self.reader.scan(self.reader.list())
    }

    fn in_force(&self) -> Vec<&str> {
        self.reader.objects.keys().map(|key| key.name.name.as_str()).collect()
    }

    fn told(&self, words: &str) -> bool {
        self.reader.told.iter().any(|finding| finding.contains(words))
    }
}

#[test]
fn changes_are_told_once_and_removals_first() {
    let mut shelf = Shelf::new(&[("a.yaml", &policy("a")), ("b.yaml", &policy("b"))]);
    assert_eq!(shelf.in_force(), ["a", "b"]);
    assert_eq!(shelf.look(), Vec::<String>::new());
    shelf.write("c.yaml", &(policy("c") + &policy("e")));
    fs::remove_file(shelf.path("b.yaml")).unwrap();
    shelf.write(
        "a.yaml",
        &policy("a").replace("spec: {podSelector: {}}", "spec: {podSelector: {}, policyTypes: [Egress]}"),
    );
    // First what is there, and what is gone once it surely is.
    assert_eq!(shelf.look(), ["+a", "+c", "+e", "-b"]);
    shelf.write("c.yaml", &policy("d"));
    assert_eq!(shelf.look(), ["-c", "-e", "+d"]);
    assert!(shelf.reader.told.is_empty());
}

#[test]
fn a_file_that_is_replaced_by_renaming_is_never_gone() {
    let mut shelf = Shelf::new(&[("a.yaml", &policy("a"))]);
    // As some editors do it, with a look between any two steps.
    fs::rename(shelf.path("a.yaml"), shelf.path("a.yaml~")).unwrap();
    assert_eq!(shelf.scan(), Scan { changes: vec![], again: true });
    shelf.write(".a.yaml.swp", &policy("c"));
    assert_eq!(shelf.scan().changes, []);
    fs::rename(shelf.path(".a.yaml.swp"), shelf.path("a.yaml")).unwrap();
    assert_eq!(shelf.look(), ["-a", "+c"]);
}

#[test]
fn a_mistake_does_not_open_what_was_closed() {
    let mut shelf = Shelf::new(&[("a.yaml", &(policy("a") + &policy("b")))]);
    let broken = policy("a").replace("podSelector", "podSelecter");
    for text in [
        // A policy with a typo; the other one is there.
        broken.clone() + &policy("b"),
        // No YAML at all, in the place of one of them.
        policy("a") + "---\n{ not: [yaml\n",
        // Half-written: one is missing, the other cut.
        policy("a")[..policy("a").len() - 9].to_owned(),
        // Cut to nothing, as `>` does before the first byte is written.
        String::new(),
        "# all commented out\n".to_owned(),
        "\u{0}\u{1}".to_owned(),
    ] {
        shelf.write("a.yaml", &text);
        assert_eq!(shelf.look(), Vec::<String>::new(), "{text:?}");
        assert_eq!(shelf.in_force(), ["a", "b"], "{text:?}");
        assert!(shelf.told("a.yaml"), "{text:?}");
    }
    fs::write(shelf.path("a.yaml"), [0xff, 0xfe]).unwrap();
    assert_eq!(shelf.look(), Vec::<String>::new());
    assert!(shelf.told("cannot be read"));

    // What a file with a mistake says rightly and anew is taken in at once.
    shelf.write("a.yaml", &(broken + &policy("c")));
    assert_eq!(shelf.look(), ["+c"]);
    assert!(
        shelf.told("a.yaml:5: NetworkPolicy default/a: spec.podSelecter: there is no such field"),
        "{:?}",
        shelf.reader.told
    );
    assert!(shelf.told("NetworkPolicy default/a, NetworkPolicy default/b"), "{:?}", shelf.reader.told);
    // Mended, it is the whole truth again.
    shelf.write("a.yaml", &policy("c"));
    assert_eq!(shelf.look(), ["-a", "-b"]);
    assert!(shelf.reader.told.is_empty());
    fs::remove_file(shelf.path("a.yaml")).unwrap();
    assert_eq!(shelf.look(), ["-c"]);
}

#[test]
fn one_broken_file_does_not_hold_up_the_others() {
    let mut shelf = Shelf::new(&[("a.yaml", "{"), ("b.yaml", &policy("b"))]);
    assert_eq!(shelf.in_force(), ["b"]);
    shelf.write("c.yaml", &policy("c"));
    assert_eq!(shelf.look(), ["+c"]);
    assert!(shelf.told("not YAML"), "{:?}", shelf.reader.told);
}

#[test]
fn a_directory_that_is_not_there_for_a_while_removes_nothing() {
    let mut shelf = Shelf::new(&[("sub/a.yaml", &policy("a"))]);
    let root = shelf.directory.path().to_owned();
    let aside = root.with_extension("aside");
    fs::rename(&root, &aside).unwrap();
    assert_eq!(shelf.look(), Vec::<String>::new());
    assert!(shelf.told("stays in force"), "{:?}", shelf.reader.told);
    fs::rename(&aside, &root).unwrap();
    shelf.write("b.yaml", &policy("b"));
    assert_eq!(shelf.look(), ["+b"]);
    fs::remove_dir_all(shelf.path("sub")).unwrap();
    assert_eq!(shelf.look(), ["-a"]);
}

#[test]
fn a_mounted_config_map_is_exchanged_at_once() {
    let mut shelf = Shelf::new(&[("..1/p.yaml", &policy("a")), ("..1/sub/q.yaml", &policy("b"))]);
    assert!(shelf.in_force().is_empty(), "hidden");
    symlink("..1", shelf.path("..data")).unwrap();
    symlink("..data/p.yaml", shelf.path("p.yaml")).unwrap();
    symlink("..data/sub", shelf.path("sub")).unwrap();
    assert_eq!(shelf.look(), ["+a", "+b"]);
    let watched = shelf.reader.list().directories();
    let real = |name| fs::canonicalize(shelf.path(name)).unwrap();
    assert!([real(""), real("..1"), real("..1/sub")].iter().all(|directory| watched.contains(directory)));
    shelf.write("..2/p.yaml", &policy("c"));
    shelf.write("..2/sub/q.yaml", &policy("b"));
    symlink("..2", shelf.path("..data_tmp")).unwrap();
    fs::rename(shelf.path("..data_tmp"), shelf.path("..data")).unwrap();
    fs::remove_dir_all(shelf.path("..1")).unwrap();
    assert_eq!(shelf.look(), ["-a", "+c"]);
}

#[test]
fn of_two_definitions_the_first_holds_until_it_goes() {
    let mut shelf = Shelf::new(&[("a.yaml", &policy("x")), ("b.yaml", &policy("x"))]);
    assert!(shelf.told("also defined in"), "{:?}", shelf.reader.told);
    fs::remove_file(shelf.path("a.yaml")).unwrap();
    // The second was equal.
    assert_eq!(shelf.look(), Vec::<String>::new());
    assert!(shelf.reader.told.is_empty());
    assert_eq!(shelf.in_force(), ["x"]);
}

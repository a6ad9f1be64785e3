//! The IPAM plugin that a configuration may name: found in `CNI_PATH` and executed as the specification says (section 4), with this
//! plugin's variables and input.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use rscni_types::types::{
    CNI_COMMAND, CNI_CONTAINERID, CNI_IFNAME, CNI_NETNS, CNI_PATH, CNIResult, Cmd, Dns, IpConfig,
};
use serde::Deserialize;
use serde_json::Value;

use crate::attachment::Attachment;
use crate::error::{CniError, Result, code};

/// How long a call of the plugin may take: many times what one takes that keeps its state in files, and little beside the minutes that
/// kubelet gives a pod.
const PATIENCE: Duration = Duration::from_secs(15);

/// Longest answer in bytes, as for configurations.
const MAX_ANSWER: u64 = 1 << 20;

/// An IPAM plugin.
#[derive(Debug)]
pub(crate) struct Delegate<'a> {
    name: &'a str,
    program: PathBuf,
    input: &'a [u8],
}

/// What it gave.
#[derive(Debug, Default)]
pub(crate) struct Given {
    /// The pod's addresses.
    pub(crate) addresses: Vec<IpAddr>,
    /// The same in the plugin's words. Which subnet they are of, and its gateway, does not matter to a pod that is routed, but to the
    /// plugin's CHECK.
    pub(crate) ips: Vec<IpConfig>,
    /// Destinations other than everything, of families that the pod has an address of.
    pub(crate) routes: Vec<IpNet>,
    /// Name servers.
    pub(crate) dns: Option<Dns>,
}

/// An error as the specification has plugins write it.
#[derive(Debug, Deserialize)]
struct Complaint {
    code: u32,
    #[serde(default)]
    msg: String,
    #[serde(default)]
    details: String,
}

impl<'a> Delegate<'a> {
    /// Finds the plugin in `path`, directories with colons between them.
    pub(crate) fn find(name: &'a str, path: &OsStr, input: &'a [u8]) -> Result<Self> {
        if path.is_empty() {
            let details = format!("{CNI_PATH} is not set; the IPAM plugin {name} is looked for there");
            return Err(CniError::new(code::ENVIRONMENT, details));
        }
        let candidates = env::split_paths(path).map(|directory| directory.join(name));
        let program = candidates.into_iter().find(|file| is_executable(file)).ok_or_else(|| {
            let path = path.to_string_lossy();
            let details = format!("ipam.type is {name}, and there is no such program in {CNI_PATH} ({path})");
            CniError::new(code::CONFIG, details)
        })?;
        if is_self(&program) {
            let details = format!(
                "ipam.type is {name}, which is this plugin; remove the section for its own addresses"
            );
            return Err(CniError::new(code::CONFIG, details));
        }
        Ok(Self { name, program, input })
    }

    /// Asks for addresses. When this fails, [`Self::call`] it with DEL: it may have given some all the same.
    pub(crate) fn add(&self) -> Result<Given> {
        let answer = self.run(Cmd::Add, self.input, None)?;
        let result: CNIResult = serde_json::from_slice(&answer)
            .map_err(|error| self.nonsense(&format!("{error}, in {}", excerpt(&answer))))?;
        self.understand(result)
    }

    /// Another verb about what this plugin was called for.
    pub(crate) fn call(&self, verb: Cmd) -> Result<()> {
        self.run(verb, self.input, None).map(drop)
    }

    /// CHECK, with a prevResult in which the pod's addresses are as the plugin gave them.
    pub(crate) fn check(&self, given: &[IpConfig]) -> Result<()> {
        let input = in_its_words(self.input, given);
        self.run(Cmd::Check, input.as_deref().unwrap_or(self.input), None).map(drop)
    }

    /// DEL of another attachment, whose namespace is not known.
    pub(crate) fn delete(&self, attachment: &Attachment) -> Result<()> {
        self.run(Cmd::Del, self.input, Some(attachment)).map(drop)
    }

    fn understand(&self, result: CNIResult) -> Result<Given> {
        let mut given = Given { dns: result.dns, ..Given::default() };
        for ip in result.ips {
            let address = ip.address.addr();
            if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
                return Err(self.nonsense(&format!("{address} is no address for a pod")));
            }
            if given.addresses.contains(&address) {
                return Err(self.nonsense(&format!("it gave {address} twice")));
            }
            given.addresses.push(address);
            given.ips.push(IpConfig { interface: None, ..ip });
        }
        if given.addresses.is_empty() {
            return Err(self.nonsense("it gave no address"));
        }
        for route in &result.routes {
            let ipv4 = route.dst.addr().is_ipv4();
            let reachable = given.addresses.iter().any(|address| address.is_ipv4() == ipv4);
            if route.dst.prefix_len() > 0 && reachable && !given.routes.contains(&route.dst.trunc()) {
                given.routes.push(route.dst.trunc());
            }
        }
        Ok(given)
    }

    fn run(&self, verb: Cmd, input: &[u8], other: Option<&Attachment>) -> Result<Vec<u8>> {
        let mut command = Command::new(&self.program);
        command.env(CNI_COMMAND, <&str>::from(verb));
        if let Some(attachment) = other {
            command.env(CNI_CONTAINERID, &attachment.container_id).env(CNI_IFNAME, &attachment.ifname);
            command.env(CNI_NETNS, "");
        }
        // What it has to tell a person goes where ours goes.
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let fail = |what: &str, error: std::io::Error| {
            CniError::new(
                code::IO,
                format!("cannot {what} the IPAM plugin {}: {error}", self.program.display()),
            )
        };
        let mut child = command.spawn().map_err(|error| fail("start", error))?;
        match converse(&mut child, input) {
            Ok(Some((answer, status))) => self.judge(verb, answer, status),
            Ok(None) => {
                end(&mut child);
                let (verb, seconds) = (<&str>::from(verb), PATIENCE.as_secs());
                let details = format!("the IPAM plugin {} did not end {verb} within {seconds} s", self.name);
                Err(CniError::new(code::LATER, details))
            }
            Err(error) => {
                end(&mut child);
                Err(fail("talk to", error))
            }
        }
    }

    fn judge(&self, verb: Cmd, answer: Vec<u8>, status: ExitStatus) -> Result<Vec<u8>> {
        if answer.len() as u64 > MAX_ANSWER {
            return Err(self.nonsense(&format!("its answer has more than {MAX_ANSWER} bytes")));
        }
        if status.success() {
            return Ok(answer);
        }
        let verb = <&str>::from(verb);
        let Ok(told) = serde_json::from_slice::<Complaint>(&answer) else {
            return Err(self.nonsense(&format!("{verb} failed ({status}) with {}", excerpt(&answer))));
        };
        let words = format!("the IPAM plugin {} failed in {verb}: {}: {}", self.name, told.msg, told.details);
        // The specification's codes mean the same of everybody. Those above are every plugin's own.
        Err(match told.code {
            1..100 => CniError::new(told.code, words),
            _ => CniError::new(code::DELEGATE, format!("{words} (its code {})", told.code)),
        })
    }

    fn nonsense(&self, what: &str) -> CniError {
        CniError::new(code::DELEGATE, format!("the IPAM plugin {}: {what}", self.name))
    }
}

/// Nothing when there is nothing to put in.
fn in_its_words(input: &[u8], given: &[IpConfig]) -> Option<Vec<u8>> {
    let mut document: Value = serde_json::from_slice(input).ok()?;
    for ip in document.get_mut("prevResult")?.get_mut("ips")?.as_array_mut()? {
        let address = ip.get("address").and_then(Value::as_str).and_then(|text| text.parse::<IpNet>().ok());
        let given = given.iter().find(|given| address.is_some_and(|net| net.addr() == given.address.addr()));
        if let Some(given) = given {
            ip["address"] = Value::from(given.address.to_string());
            ip["gateway"] = given.gateway.map(|gateway| gateway.to_string()).into();
        }
    }
    serde_json::to_vec(&document).ok()
}

/// Writes the input, reads the answer, waits for the end; nothing when that takes too long.
fn converse(child: &mut Child, input: &[u8]) -> std::io::Result<Option<(Vec<u8>, ExitStatus)>> {
    let deadline = Instant::now() + PATIENCE;
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_vec();
        // A plugin that ends without reading is no error.
        thread::Builder::new().spawn(move || stdin.write_all(&input).ok())?;
    }
    let (sender, receiver) = mpsc::sync_channel(1);
    if let Some(stdout) = child.stdout.take() {
        thread::Builder::new().spawn(move || {
            let mut answer = Vec::new();
            let read = stdout.take(MAX_ANSWER + 1).read_to_end(&mut answer).map(|_| answer);
            let _ = sender.send(read);
        })?;
    }
    let Ok(answer) = receiver.recv_timeout(PATIENCE) else { return Ok(None) };
    let answer = answer?;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some((answer, status)));
        }
        if Instant::now() > deadline {
            return Ok(None);
        }
        // It has closed its output; what is left of it is its end.
        thread::sleep(Duration::from_millis(1));
    }
}

fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

fn is_executable(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// It would ask itself, and that again, without end.
fn is_self(program: &Path) -> bool {
    let id = |path: &Path| fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok();
    id(program) == id(Path::new("/proc/self/exe"))
}

fn excerpt(answer: &[u8]) -> String {
    const LONGEST: usize = 200;
    let text = String::from_utf8_lossy(answer);
    let text = text.trim();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("'{}…'", &text[..end]),
        None if text.is_empty() => "no answer".to_owned(),
        None => format!("'{text}'"),
    }
}

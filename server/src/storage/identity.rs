//! Whose data folder this is.
//!
//! A folder that is given to the wrong node, or to a node of another cluster, would break promises
//! that were made in its log. So the first start writes down who the node is and which nodes its
//! cluster has, and every later start must agree. Addresses may change, numbers may not.
//!
//! The cluster's name is derived from the peer list of its first start, so that all nodes arrive at
//! the same one without talking to each other, and two clusters whose nodes are pointed at each
//! other by mistake find out.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::Peers;

/// The format of the data folder that this version reads and writes.
pub const FORMAT: u32 = 1;

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file system refused.
    #[error("could not {what} {}: {source}", path.display())]
    Io {
        /// `create`, `lock`, `name`, `read` or `write`.
        what: &'static str,
        /// What was touched.
        path: PathBuf,
        /// Its words.
        source: io::Error,
    },
    /// Another process holds the lock.
    #[error("the data folder {} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// The IDENTITY file is not one.
    #[error("{} is damaged: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Written by another version.
    #[error("the data folder {} has format {found}, and this version reads format {FORMAT}", folder.display())]
    Format {
        /// The folder.
        folder: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The Paxos log is not where it was: with an empty one the node would break its promises.
    #[error(
        "the log in {} is gone, and with it what this node has promised to the others: put the folder back as it was; \
         an empty log would lose transactions",
        .0.display()
    )]
    LogGone(PathBuf),
    /// Another node's folder.
    #[error("the data folder {} belongs to node {found}, not to node {wanted}", folder.display())]
    OtherNode {
        /// The folder.
        folder: PathBuf,
        /// Whose it is.
        found: u64,
        /// Who asked.
        wanted: u64,
    },
    /// The cluster has other nodes.
    #[error(
        "the data folder {} belongs to a cluster of nodes {}, but --peers names {}: the nodes of a cluster are fixed \
         when it is first started",
        folder.display(), list(found), list(wanted)
    )]
    OtherCluster {
        /// The folder.
        folder: PathBuf,
        /// Its nodes.
        found: Vec<u64>,
        /// The nodes given.
        wanted: Vec<u64>,
    },
}

fn list(nodes: &[u64]) -> String {
    nodes.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    format: u32,
    node: u64,
    cluster_id: String,
    nodes: Vec<u64>,
    /// A random name, made with the folder.
    folder: String,
    /// The stores were made: from then on a log that is not there is a log that was lost.
    #[serde(default)]
    has_stores: bool,
}

/// A data folder that is this process's own until it is dropped.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    identity: Identity,
    // Holds the lock.
    _lock: File,
}

impl DataFolder {
    /// Opens or creates the folder for a node of the cluster with these peers.
    pub fn open(path: &Path, node: u64, peers: &Peers) -> Result<DataFolder, IdentityError> {
        fs::create_dir_all(path).map_err(io("create", path))?;
        let lock = lock(path)?;
        let file = path.join("IDENTITY");
        let wanted: Vec<u64> = peers.iter().map(|(id, _)| id).collect();
        let identity = match fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|err| IdentityError::Damaged { path: file.clone(), why: err.to_string() })?,
            Err(err) if err.kind() == io::ErrorKind::NotFound => {
                let identity = Identity {
                    format: FORMAT,
                    node,
                    cluster_id: cluster_id(peers),
                    nodes: wanted.clone(),
                    folder: random_name().map_err(io("name", path))?,
                    has_stores: false,
                };
                write(path, &identity)?;
                identity
            }
            Err(err) => return Err(io("read", &file)(err)),
        };
        if identity.format != FORMAT {
            return Err(IdentityError::Format { folder: path.into(), found: identity.format });
        }
        if identity.node != node {
            return Err(IdentityError::OtherNode { folder: path.into(), found: identity.node, wanted: node });
        }
        if identity.nodes != wanted {
            return Err(IdentityError::OtherCluster { folder: path.into(), found: identity.nodes, wanted });
        }
        let folder = DataFolder { path: path.into(), identity, _lock: lock };
        let made = |store: PathBuf| store.join("CURRENT").exists();
        if (folder.identity.has_stores || made(folder.state())) && !made(folder.log()) {
            return Err(IdentityError::LogGone(folder.log()));
        }
        Ok(folder)
    }

    /// Notes that both stores are there, so that a later start does not make them anew.
    pub fn stores_made(&mut self) -> Result<(), IdentityError> {
        if self.identity.has_stores {
            return Ok(());
        }
        self.identity.has_stores = true;
        write(&self.path, &self.identity)
    }

    /// The folder's random name: 16 hexadecimal digits.
    pub fn name(&self) -> &str {
        &self.identity.folder
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The cluster's name: 16 hexadecimal digits.
    pub fn cluster_id(&self) -> &str {
        &self.identity.cluster_id
    }

    /// Where the Paxos log lies.
    pub fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    /// Where the applied state lies.
    pub fn state(&self) -> PathBuf {
        self.path.join("state")
    }

    /// Where queries spill what does not fit in memory: emptied at each start.
    pub fn queries(&self) -> PathBuf {
        self.path.join("queries")
    }
}

pub(super) fn io<'a>(what: &'static str, path: &'a Path) -> impl Fn(io::Error) -> IdentityError + 'a {
    move |source| IdentityError::Io { what, path: path.to_path_buf(), source }
}

fn lock(folder: &Path) -> Result<File, IdentityError> {
    let path = folder.join("LOCK");
    let lock =
        File::options().create(true).truncate(false).read(true).write(true).open(&path).map_err(io("create", &path))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(IdentityError::InUse(folder.to_path_buf())),
        Err(TryLockError::Error(err)) => Err(io("lock", &path)(err)),
    }
}

fn write(folder: &Path, identity: &Identity) -> Result<(), IdentityError> {
    let mut text = serde_json::to_vec_pretty(identity).expect("an identity is plain JSON");
    text.push(b'\n');
    write_file(folder, "IDENTITY", &text)
}

/// Writes a small file so that a crash leaves the old or the new one, whole.
pub(super) fn write_file(folder: &Path, name: &str, text: &[u8]) -> Result<(), IdentityError> {
    let (draft, file) = (folder.join(format!("{name}.new")), folder.join(name));
    let written = File::create(&draft).and_then(|mut out| out.write_all(text).and_then(|()| out.sync_all()));
    written.map_err(io("write", &draft))?;
    fs::rename(&draft, &file).map_err(io("write", &file))?;
    File::open(folder).and_then(|dir| dir.sync_all()).map_err(io("write", folder))
}

/// 16 hexadecimal digits of the operating system's randomness.
fn random_name() -> io::Result<String> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("{:016x}", u64::from_le_bytes(bytes)))
}

/// A name for the cluster with these peers: FNV-1a over the sorted list.
fn cluster_id(peers: &Peers) -> String {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in peers.to_string().bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(text: &str) -> Peers {
        text.parse().unwrap()
    }

    #[test]
    fn a_folder_is_for_one_node_of_one_cluster_and_one_process() {
        let dir = tempfile::tempdir().unwrap();
        let three = peers("1=a:1,2=b:2,3=c:3");
        let folder = DataFolder::open(dir.path(), 2, &three).unwrap();
        let id = folder.cluster_id().to_string();
        let err = DataFolder::open(dir.path(), 2, &three).unwrap_err();
        assert!(err.to_string().contains("is in use by another process"), "{err}");
        drop(folder);

        let err = DataFolder::open(dir.path(), 1, &three).unwrap_err();
        assert!(err.to_string().contains("belongs to node 2, not to node 1"), "{err}");
        let err = DataFolder::open(dir.path(), 2, &peers("1=a:1,2=b:2,4=c:3")).unwrap_err();
        assert!(err.to_string().contains("a cluster of nodes 1, 2, 3, but --peers names 1, 2, 4"), "{err}");
        let moved = DataFolder::open(dir.path(), 2, &peers("3=c:9,1=a:8,2=b:7")).unwrap();
        assert_eq!(moved.cluster_id(), id);
    }

    #[test]
    fn a_log_is_made_once_and_missed_ever_after() {
        let dir = tempfile::tempdir().unwrap();
        let one = peers("1=a:1");
        let make = |store: PathBuf| {
            fs::create_dir_all(&store).unwrap();
            fs::write(store.join("CURRENT"), "x").unwrap();
        };
        // A first start that ended early, at any point, may go on.
        let folder = DataFolder::open(dir.path(), 1, &one).unwrap();
        drop(folder);
        let folder = DataFolder::open(dir.path(), 1, &one).unwrap();
        make(folder.log());
        drop(folder);
        let mut folder = DataFolder::open(dir.path(), 1, &one).unwrap();
        make(folder.state());
        folder.stores_made().unwrap();
        drop(folder);
        assert!(DataFolder::open(dir.path(), 1, &one).is_ok());
        fs::remove_dir_all(dir.path().join("log")).unwrap();
        assert!(matches!(DataFolder::open(dir.path(), 1, &one), Err(IdentityError::LogGone(_))));
        fs::remove_dir_all(dir.path().join("state")).unwrap();
        let err = DataFolder::open(dir.path(), 1, &one).unwrap_err();
        assert!(err.to_string().contains("is gone"), "{err}");
    }

    #[test]
    fn a_damaged_or_newer_identity_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let one = peers("1=a:1");
        fs::write(dir.path().join("IDENTITY"), "{").unwrap();
        assert!(matches!(DataFolder::open(dir.path(), 1, &one), Err(IdentityError::Damaged { .. })));
        let newer = r#"{"format":99,"node":1,"cluster_id":"x","nodes":[1],"folder":"f"}"#;
        fs::write(dir.path().join("IDENTITY"), newer).unwrap();
        assert!(matches!(DataFolder::open(dir.path(), 1, &one), Err(IdentityError::Format { found: 99, .. })));
    }
}

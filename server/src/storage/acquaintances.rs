//! Which data folder each peer had when it was first met.
//!
//! A replica's promises and votes lie in its data folder, and consensus counts on them for ever. A
//! node that comes back with a new, empty folder has forgotten them: if its voice counted again, two
//! majorities could meet in it alone, and a chosen value could be lost (I3, I5). So
//!
//! - each folder has a random name, made with it, and a node says it first on every stream;
//! - a node notes the name of a peer's folder, durably, before it takes in the peer's first message,
//!   and refuses a peer that comes with another one;
//! - a node tells its peers which folders it knows: a peer that was away learns of them, and the
//!   node that has lost its folder is told so, and stops.
//!
//! What this cannot see: a folder lost before any peer that is still there had heard of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use super::identity::{IdentityError, io, write_file};

/// The folders of the peers of one node, in a file of its data folder.
#[derive(Debug)]
pub struct Acquaintances {
    me: u64,
    folder: String,
    home: PathBuf,
    known: Mutex<BTreeMap<u64, String>>,
}

/// Why a peer is not who it was, or this node is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stranger {
    /// The peer has another folder than before.
    Peer(String),
    /// This node has: it must stop.
    Me(String),
}

impl Acquaintances {
    /// Those that the data folder at `home`, whose name is `folder`, remembers.
    pub fn open(home: &Path, me: u64, folder: &str) -> Result<Acquaintances, IdentityError> {
        let file = home.join("PEERS");
        let known = match fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|err| IdentityError::Damaged { path: file.clone(), why: err.to_string() })?,
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(err) => return Err(io("read", &file)(err)),
        };
        Ok(Acquaintances { me, folder: folder.into(), home: home.into(), known: Mutex::new(known) })
    }

    /// The name of this node's own folder.
    pub fn folder(&self) -> &str {
        &self.folder
    }

    /// The folders of all nodes that are known here, this one's included.
    pub fn known(&self) -> BTreeMap<u64, String> {
        let mut known = self.lock().clone();
        known.insert(self.me, self.folder.clone());
        known
    }

    /// A peer says hello, with its folder and what it knows of others. What is new is on disk when
    /// this returns.
    pub fn meet(
        &self,
        peer: u64,
        folder: &str,
        claims: &BTreeMap<u64, String>,
    ) -> Result<Result<(), Stranger>, IdentityError> {
        if let Some(mine) = claims.get(&self.me)
            && *mine != self.folder
        {
            let me = self.me;
            return Ok(Err(Stranger::Me(format!(
                "node {me} has lost its data folder: node {peer} knows it by the folder {mine}, and this one is {}. What \
                 it had promised and accepted is forgotten, so it must not take part again. Put the old folder back",
                self.folder
            ))));
        }
        let mut known = self.lock();
        if let Some(was) = known.get(&peer)
            && was != folder
        {
            return Ok(Err(Stranger::Peer(format!(
                "node {peer} has lost its data folder: it was known by {was}, and comes with {folder}. What it had \
                 promised and accepted is forgotten, so its votes must not count again. Put its old folder back"
            ))));
        }
        let mut now = known.clone();
        now.insert(peer, folder.to_string());
        for (node, folder) in claims.iter().filter(|(node, _)| **node != self.me) {
            now.entry(*node).or_insert_with(|| folder.clone());
        }
        if now != *known {
            let mut text = serde_json::to_vec_pretty(&now).expect("numbers and names are plain JSON");
            text.push(b'\n');
            write_file(&self.home, "PEERS", &text)?;
            *known = now;
        }
        Ok(Ok(()))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, String>> {
        self.known.lock().expect("no thread panics while it holds the peers' folders")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(list: &[(u64, &str)]) -> BTreeMap<u64, String> {
        list.iter().map(|(node, folder)| (*node, folder.to_string())).collect()
    }

    #[test]
    fn a_peer_with_another_folder_is_refused_even_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let one = Acquaintances::open(dir.path(), 1, "a").unwrap();
        assert_eq!(one.meet(2, "b", &claims(&[(2, "b")])).unwrap(), Ok(()));
        assert!(matches!(one.meet(2, "x", &claims(&[])).unwrap(), Err(Stranger::Peer(why)) if why.contains("node 2")));
        drop(one);
        let one = Acquaintances::open(dir.path(), 1, "a").unwrap();
        assert!(matches!(one.meet(2, "x", &claims(&[])).unwrap(), Err(Stranger::Peer(_))));
        assert_eq!(one.meet(2, "b", &claims(&[])).unwrap(), Ok(()));
        assert_eq!(one.known(), claims(&[(1, "a"), (2, "b")]));
    }

    #[test]
    fn who_was_away_learns_from_others_and_who_forgot_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let four = Acquaintances::open(dir.path(), 4, "d").unwrap();
        assert_eq!(four.meet(1, "a", &claims(&[(1, "a"), (3, "c")])).unwrap(), Ok(()));
        assert!(matches!(four.meet(3, "y", &claims(&[])).unwrap(), Err(Stranger::Peer(_))), "never met, but heard of");
        let told = four.meet(2, "b", &claims(&[(4, "old")])).unwrap();
        assert!(matches!(told, Err(Stranger::Me(why)) if why.contains("node 4 has lost its data folder")));
    }

    #[test]
    fn a_damaged_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("PEERS"), "{").unwrap();
        assert!(matches!(Acquaintances::open(dir.path(), 1, "a"), Err(IdentityError::Damaged { .. })));
    }
}

//! File systems that lose power, fill up, and fail: an ext4 on a file of its own, mounted by root.
//!
//! [`Disk::cut`] is the ioctl `EXT4_IOC_SHUTDOWN` without a flush of the journal. From then on every write
//! and every fsync gets EIO, and after [`Disk::replug`] (unmount, mount, which replays the journal) the
//! file system holds what was synced before, and of the rest at most what the journal happened to have
//! committed: as after a power cut.

use std::path::{Path, PathBuf};
use std::process::Command;

/// EXT4_IOC_SHUTDOWN is `_IOR('X', 125, u32)`; flag 2 leaves the journal as it is.
const CUT: &str = r#"
import fcntl, os, struct, sys
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack("I", 2))
"#;

/// An ext4 of its own below one folder. Unmounted when it is dropped.
#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    folder: PathBuf,
}

fn sh(command: &str, args: &[&Path]) -> Result<(), String> {
    let out = Command::new("sh").args(["-c", command, "sh"]).args(args).output().map_err(|e| e.to_string())?;
    match out.status.success() {
        true => Ok(()),
        false => Err(format!("{command}: {}", String::from_utf8_lossy(&out.stderr).trim())),
    }
}

impl Disk {
    /// A new, empty file system of so many MiB, mounted at the folder, which is made. Its image lies
    /// beside it. Says why if that cannot be had: it needs root, a loop device and ext4.
    pub fn new(folder: &Path, mib: u64) -> Result<Disk, String> {
        let image = folder.with_extension("img");
        std::fs::create_dir_all(folder).map_err(|e| e.to_string())?;
        let file = std::fs::File::create(&image).map_err(|e| e.to_string())?;
        file.set_len(mib << 20).map_err(|e| e.to_string())?;
        sh("command -v python3 && mkfs.ext4 -q -F \"$1\"", &[&image])?;
        let disk = Disk { image, folder: folder.to_path_buf() };
        disk.mount()?;
        Ok(disk)
    }

    fn mount(&self) -> Result<(), String> {
        sh("mount -o loop \"$1\" \"$2\"", &[&self.image, &self.folder])
    }

    /// The power goes. Processes that use the disk get EIO.
    pub fn cut(&self) {
        let out = Command::new("python3").args(["-c", CUT]).arg(&self.folder).output().expect("python3 runs");
        assert!(out.status.success(), "the cut: {}", String::from_utf8_lossy(&out.stderr));
    }

    /// The power comes back. Nobody may use the disk meanwhile.
    pub fn replug(&self) {
        sh("umount \"$1\"", &[&self.folder]).expect("nobody uses the disk");
        self.mount().expect("it can be mounted again");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a process that a failed test left behind may still hold it.
        let _ = sh("umount -l \"$1\"", &[&self.folder]);
    }
}

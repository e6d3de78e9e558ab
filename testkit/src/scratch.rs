//! Folders that vanish with their owner.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicUsize, Ordering},
};

/// The most octets of a base folder's path, so that sockets below it fit into the 108 octets of
/// `sun_path`.
const MAX_BASE: usize = 60;

/// A folder of one's own, deleted with all that is in it when dropped.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes an empty folder that every user may pass through.
    ///
    /// It lies in Cargo's folder for test files, or in the system's folder for temporary files when
    /// the former is too deep for sockets or closed to the users as whom an MTA runs.
    pub fn new(purpose: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("{purpose}-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = base().join(name);
        fs::create_dir_all(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Self { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of something in it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file, with its folders; answers with its path.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A file that an MTA still writes while it ends can make the first attempt fail.
        for _ in 0..20 {
            if fs::remove_dir_all(&self.path).is_ok() || !self.path.exists() {
                return;
            }
        }
    }
}

/// The folder for files that outlive the test: Cargo's folder for build products.
pub fn target_folder() -> PathBuf {
    // A test or benchmark is `TARGET/PROFILE/deps/NAME`, an example is `TARGET/PROFILE/examples/NAME`.
    let program = env::current_exe().unwrap();
    program.ancestors().nth(3).unwrap().to_path_buf()
}

fn base() -> PathBuf {
    let base = target_folder().join("tmp");
    fs::create_dir_all(&base).unwrap();
    let open = |folder: &Path| {
        fs::metadata(folder).is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0)
    };
    if base.as_os_str().len() <= MAX_BASE && base.ancestors().all(open) {
        base
    } else {
        env::temp_dir()
    }
}

//! Notices that files which were given have changed: certificates, roots, trust anchors.
//!
//! The directories are watched rather than the files, since files are replaced by renaming others
//! over them, and by moving the symbolic links on the way to them. What the system says is only a
//! reason to look: a change is what [`Stamp`] shows, when writing has come to rest. And because
//! not every file system tells, there is a look every now and then in any case.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::{net::unix::pipe::Receiver, time::sleep_until};
use tracing::debug;

use crate::{certificates::Stamp, clock, config::Settings};

/// How often the files are looked at when nothing is said of them.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// How long nothing must happen before the files are looked at: a certificate and its key are
/// written one after the other.
const QUIET: Duration = Duration::from_millis(300);
/// For how long something may go on happening before they are looked at nevertheless.
const UNREST_MAX: Duration = Duration::from_secs(3);
/// Directories watched at most: two or three hold all, and the system's share is limited.
const DIRECTORIES_MAX: usize = 64;
/// Symbolic links followed from one to the next, as the system does.
const LINKS_MAX: usize = 40;

/// Watches files.
pub(super) struct Files {
    /// `None` where the system gives none.
    inotify: Option<Receiver>,
    directories: HashMap<PathBuf, i32>,
    paths: Vec<PathBuf>,
    stamp: Stamp,
    /// When something happened first and last since the last look.
    unrest: Option<(Instant, Instant)>,
    next_look: Instant,
}

impl Files {
    /// Watches the files that these settings name. Belongs into a runtime.
    pub(super) fn start(settings: &Settings) -> Self {
        let mut files = Self::watching_nothing();
        files.follow(given(settings));
        files
    }

    fn watching_nothing() -> Self {
        let made = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok();
        // To the runtime it is what a pipe is: something that can be read now and then.
        let inotify = made.and_then(|inotify| Receiver::from_owned_fd_unchecked(inotify).ok());
        if inotify.is_none() {
            debug!("the system does not tell of changed files; they are looked at now and then");
        }
        Self {
            inotify,
            directories: HashMap::new(),
            paths: Vec::new(),
            stamp: Stamp::default(),
            unrest: None,
            next_look: clock::instant() + LOOK_EVERY,
        }
    }

    /// Watches the files that changed settings name.
    pub(super) fn apply(&mut self, settings: &Settings) {
        let files = given(settings);
        if files != self.paths {
            self.follow(files);
        }
    }

    /// Watches these files from now on, as they are now.
    fn follow(&mut self, files: Vec<PathBuf>) {
        self.paths = files;
        self.watch_directories();
        self.stamp = Stamp::of(&self.paths);
    }

    /// Ends when one of the files may have changed. May be dropped and called again.
    pub(super) async fn changed(&mut self) {
        loop {
            let due = match self.unrest {
                Some((first, last)) => (last + QUIET).min(first + UNREST_MAX),
                None => self.next_look,
            };
            tokio::select! {
                () = sleep_until(due.into()) => {
                    self.unrest = None;
                    self.next_look = clock::instant() + LOOK_EVERY;
                    // Links may lead elsewhere now.
                    self.watch_directories();
                    let stamp = Stamp::of(&self.paths);
                    if stamp != self.stamp {
                        self.stamp = stamp;
                        return;
                    }
                }
                () = told(&mut self.inotify) => {
                    let now = clock::instant();
                    let first = self.unrest.map_or(now, |(first, _)| first);
                    self.unrest = Some((first, now));
                }
            }
        }
    }

    fn watch_directories(&mut self) {
        let Some(inotify) = &self.inotify else {
            return;
        };
        let mut wanted: Vec<PathBuf> = Vec::new();
        for file in &self.paths {
            for directory in directories_of(file) {
                if !wanted.contains(&directory) && wanted.len() < DIRECTORIES_MAX {
                    wanted.push(directory);
                }
            }
        }
        self.directories.retain(|directory, watch| {
            let stays = wanted.contains(directory);
            if !stays {
                // It may be gone with its directory.
                let _ = inotify::remove_watch(inotify, *watch);
            }
            stays
        });
        // Also those that were watched: another directory may have their name by now.
        for directory in wanted {
            let flags = WatchFlags::CLOSE_WRITE
                | WatchFlags::MOVE
                | WatchFlags::CREATE
                | WatchFlags::DELETE
                | WatchFlags::DELETE_SELF
                | WatchFlags::MOVE_SELF
                | WatchFlags::ONLYDIR;
            match inotify::add_watch(inotify, &directory, flags) {
                Ok(watch) => {
                    self.directories.insert(directory, watch);
                }
                Err(error) => debug!(%error, directory = %directory.display(), "cannot watch"),
            }
        }
    }
}

/// The files that somebody gave us and may renew. Not the configuration itself: that is read when
/// somebody says so.
fn given(settings: &Settings) -> Vec<PathBuf> {
    let mut files = settings.dnssec.trust_anchors.clone();
    if let Some(tls) = &settings.tls.files {
        files.extend([tls.certificate.clone(), tls.key.clone()]);
    }
    let roots = settings.upstream_entries.iter();
    files.extend(roots.filter_map(|entry| Some(entry.ca.as_ref()?.path.clone())));
    files
}

/// Ends when the system has said something; what it said is of no interest.
async fn told(inotify: &mut Option<Receiver>) {
    let Some(inotify) = inotify else {
        return std::future::pending().await;
    };
    if inotify.readable().await.is_err() {
        return std::future::pending().await;
    }
    // Holds the longest of its messages.
    let mut unread = [0; 4096];
    while inotify.try_read(&mut unread).is_ok_and(|octets| octets > 0) {}
}

/// The directories in which something happens when what is found under `path` becomes something
/// else: its own, and those of the files that symbolic links lead to.
fn directories_of(path: &Path) -> Vec<PathBuf> {
    let mut directories = Vec::new();
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        let parent = match path.parent() {
            Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
            Some(parent) => parent,
            None => break,
        };
        // A directory on the way may be a link too, as where `..data` is one: that one's own
        // directory is watched for it to be moved.
        let mut above = parent.to_owned();
        while let Some(directory) = above.parent().map(Path::to_owned) {
            if above.is_symlink() {
                directories.push(non_empty(&directory));
            }
            above = directory;
        }
        directories.push(parent.to_owned());
        match path.read_link() {
            Ok(target) => path = parent.join(target),
            Err(_) => break,
        }
    }
    directories
}

fn non_empty(directory: &Path) -> PathBuf {
    if directory.as_os_str().is_empty() {
        PathBuf::from(".")
    } else {
        directory.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use tempfile::TempDir;
    use tokio::time::timeout;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn directory() -> TempDir {
        tempfile::tempdir().unwrap()
    }

    fn following(files: &[&Path]) -> Files {
        let mut watch = Files::watching_nothing();
        watch.follow(files.iter().map(|&file| file.to_owned()).collect());
        assert!(watch.inotify.is_some());
        watch
    }

    async fn notices(watch: &mut Files) {
        // Long before the look that comes in any case.
        timeout(PATIENCE, watch.changed()).await.unwrap();
    }

    #[tokio::test]
    async fn a_file_written_over_is_noticed_and_so_is_the_next_time() {
        let directory = directory();
        let file = directory.path().join("leaf.pem");
        fs::write(&file, "one").unwrap();
        let mut watch = following(&[&file]);
        fs::write(&file, "second").unwrap();
        notices(&mut watch).await;
        fs::write(&file, "another").unwrap();
        notices(&mut watch).await;
    }

    #[tokio::test]
    async fn a_file_renamed_over_it_and_one_that_comes_into_being_are_noticed() {
        let directory = directory();
        let (file, late) = (directory.path().join("a"), directory.path().join("late"));
        fs::write(&file, "one").unwrap();
        let mut watch = following(&[&file, &late]);
        let other = directory.path().join("a.tmp");
        fs::write(&other, "two").unwrap();
        fs::rename(&other, &file).unwrap();
        notices(&mut watch).await;
        fs::write(&late, "here").unwrap();
        notices(&mut watch).await;
    }

    #[tokio::test]
    async fn links_that_are_turned_are_noticed_as_kubernetes_and_certbot_turn_them() {
        let directory = directory();
        let at = |name: &str| directory.path().join(name);
        for version in ["v1", "v2"] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("tls.crt"), version).unwrap();
        }
        symlink("v1", at("..data")).unwrap();
        symlink("..data/tls.crt", at("tls.crt")).unwrap();
        fs::create_dir(at("live")).unwrap();
        symlink("../v1/tls.crt", at("live/chain.pem")).unwrap();
        let mut kubernetes = following(&[&at("tls.crt")]);
        let mut certbot = following(&[&at("live/chain.pem")]);

        symlink("v2", at("..new")).unwrap();
        fs::rename(at("..new"), at("..data")).unwrap();
        notices(&mut kubernetes).await;

        symlink("../v2/tls.crt", at("live/new")).unwrap();
        fs::rename(at("live/new"), at("live/chain.pem")).unwrap();
        notices(&mut certbot).await;
        // The one the links lead to now.
        fs::write(at("v2/tls.crt"), "written over").unwrap();
        notices(&mut kubernetes).await;
        notices(&mut certbot).await;
    }

    #[tokio::test]
    async fn what_happens_to_others_is_no_change() {
        let directory = directory();
        let file = directory.path().join("a");
        fs::write(&file, "one").unwrap();
        let mut watch = following(&[&file]);
        fs::write(directory.path().join("b"), "other").unwrap();
        let first = watch.stamp.clone();
        let waited = timeout(2 * QUIET, watch.changed()).await;
        assert!(waited.is_err());
        assert_eq!(watch.stamp, first);
    }

    #[tokio::test]
    async fn without_word_from_the_system_files_are_looked_at_now_and_then() {
        let directory = directory();
        let file = directory.path().join("a");
        fs::write(&file, "one").unwrap();
        let mut watch = following(&[&file]);
        watch.inotify = None;
        fs::write(&file, "second").unwrap();
        // It is time.
        watch.next_look = clock::instant();
        notices(&mut watch).await;
        assert!(watch.next_look > clock::instant());
    }
}

//! The cache on disk (`cache.file`): read at start, written by a thread of its own now and then and
//! at the end, so that no worker and no command waits for a disk.

use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter, Read, Seek as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Weak,
        mpsc::{self, RecvTimeoutError, SyncSender},
    },
    thread,
    time::{Duration, Instant},
};

use data_encoding::HEXLOWER_PERMISSIVE;
use nix::unistd::geteuid;
use ring::digest::{SHA256, digest};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::complaint::Complaint;
use crate::{
    cache::file::{self, FileError, HEAD_OCTETS, Head},
    clock::{self, Now},
    config::Settings,
    dnssec, durable, resolver,
    upstream::UpstreamSettings,
};

/// How often a changed cache is written: what a crash loses against what a memory card endures.
const SAVE_EVERY: Duration = Duration::from_secs(15 * 60);
/// How long the end waits for the last write. The file is the old one when it takes longer.
const LAST_SAVE_PATIENCE: Duration = Duration::from_secs(5);
/// How long the start waits for the file to be checked, and then for its answers; of those what was
/// read until then is used.
const LOAD_PATIENCE: Duration = Duration::from_secs(2);
/// Only truename's user may read which names were asked for.
const MODE: u32 = 0o600;
/// Octets between the cache and the disk.
const BUFFER_OCTETS: usize = 64 * 1024;
/// `O_NONBLOCK`, so that opening a pipe in the file's place does not wait for a writer.
const O_NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
/// Where Linux says which boot this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The thread that writes the cache.
pub(super) struct CacheFile {
    saver: Arc<Saver>,
    ended: mpsc::Receiver<()>,
}

/// Wakes the thread that writes the cache. It ends when this is gone.
pub(super) struct Saver(SyncSender<()>);

impl Saver {
    /// Has the cache written as soon as may be.
    pub(super) fn save_soon(&self) {
        // When it is full, somebody wants the same already.
        let _ = self.0.try_send(());
    }
}

impl CacheFile {
    /// Reads the file that the settings name into the cache, and writes it from now on; `None` when
    /// none is named. A file that is of no use is said and never an error.
    pub(super) fn start(
        settings: watch::Receiver<Arc<Settings>>,
        shared: &Arc<resolver::Shared>,
    ) -> io::Result<Option<Self>> {
        let now = Arc::clone(&settings.borrow());
        let Some(path) = now.cache_file.clone() else {
            return Ok(None);
        };
        let boot = boot_id();
        load(&path, &now, shared, boot);
        // One wish to write stands for many.
        let (wake, woken) = mpsc::sync_channel(1);
        let (ending, ended) = mpsc::sync_channel(1);
        let writer = Writer {
            path,
            shared: Arc::clone(shared),
            settings,
            boot,
            written: None,
            complaint: Complaint::default(),
        };
        thread::Builder::new()
            .name("cache-file".to_owned())
            .spawn(move || {
                writer.work(&woken);
                // Nobody waits any more when it took too long.
                let _ = ending.try_send(());
            })?;
        let saver = Arc::new(Saver(wake));
        Ok(Some(Self { saver, ended }))
    }

    /// For those who may want it written; none of them keeps the thread from ending.
    pub(super) fn saver(&self) -> Weak<Saver> {
        Arc::downgrade(&self.saver)
    }

    /// Writes the cache for the last time.
    pub(super) fn finish(self) {
        drop(self.saver);
        if self.ended.recv_timeout(LAST_SAVE_PATIENCE) == Err(RecvTimeoutError::Timeout) {
            warn!(
                "writing the cache takes longer than {} s; the file stays as it was",
                LAST_SAVE_PATIENCE.as_secs()
            );
        }
    }
}

/// Reads the file into the cache.
fn load(path: &Path, settings: &Settings, shared: &resolver::Shared, boot: [u8; 16]) {
    if shared.is_clock_cold() {
        let file = path.display();
        info!(%file, "the cache begins empty: this machine's clock cannot tell how old the file is");
        return;
    }
    match read(path, settings, shared, boot) {
        Ok(None) => {}
        Ok(Some(loaded)) => {
            info!(
                file = %path.display(),
                answers = loaded.taken,
                expired = loaded.expired,
                "read the cache's file"
            );
            if loaded.refused > 0 {
                warn!(
                    file = %path.display(),
                    answers = loaded.refused,
                    "the cache's file holds answers that truename cannot have written; they are \
                     not used"
                );
            }
        }
        Err(Unfit::Outdated(why)) => info!(file = %path.display(), "the cache begins empty: {why}"),
        Err(Unfit::Broken(why)) => match durable::set_aside(path) {
            Ok(aside) => warn!(
                "{}: {why}; it is now {}, and the cache begins empty",
                path.display(),
                aside.display()
            ),
            Err(error) => warn!(
                "{}: {why}; the cache begins empty. It cannot be renamed: {error}",
                path.display()
            ),
        },
        Err(Unfit::Unreadable(error)) => warn!(
            "cannot read {}: {error}; the cache begins empty. Check that truename's user may read it",
            path.display()
        ),
    }
}

/// Why a file is not used.
enum Unfit {
    /// In order, and of no use here.
    Outdated(String),
    /// It must not stay where it is.
    Broken(String),
    /// The system's or its rights' fault.
    Unreadable(io::Error),
}

impl From<FileError> for Unfit {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Unreadable(error) if error.kind() == io::ErrorKind::TimedOut => {
                Self::Outdated(format!(
                    "its file is not read within {} s",
                    LOAD_PATIENCE.as_secs()
                ))
            }
            FileError::Unreadable(error) => Self::Unreadable(error),
            FileError::Version => Self::Outdated(error.to_string()),
            FileError::Foreign | FileError::Damaged(_) => Self::Broken(error.to_string()),
        }
    }
}

/// `None` when there is no file.
fn read(
    path: &Path,
    settings: &Settings,
    shared: &resolver::Shared,
    boot: [u8; 16],
) -> Result<Option<file::Loaded>, Unfit> {
    // One file is opened, looked at and read, whatever takes its name meanwhile; and what is no file
    // does not hold the start up.
    let mut open = File::options();
    let open = open.read(true).custom_flags(O_NONBLOCK).open(path);
    let file = match open {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(Unfit::Unreadable)?,
    };
    let metadata = file.metadata().map_err(Unfit::Unreadable)?;
    // A digest tells damage and not forgery: answers are believed to whoever may write there.
    let owner = metadata.uid();
    let is_ours = owner == geteuid().as_raw() || owner == 0;
    if !metadata.is_file() || !is_ours || metadata.mode() & 0o022 != 0 {
        return Err(Unfit::Broken(
            "others than truename's user may have written it".to_owned(),
        ));
    }
    // An entry takes less in the file than in memory, so a larger file is of a larger cache.
    let octets_max = (settings.cache.size_octets as u64).saturating_add(HEAD_OCTETS as u64);
    if metadata.len() > octets_max {
        return Err(Unfit::Outdated(
            "its file is larger than cache.size".to_owned(),
        ));
    }
    let until = clock::instant() + LOAD_PATIENCE;
    let head = file::verify(&mut reader(&file, octets_max, until))?;
    if head.judge != judge(shared.dnssec_settings().as_deref(), settings) {
        return Err(Unfit::Outdated(
            "its answers were judged by another version of truename, or other [dnssec] settings \
             or trust anchors, or come by other routes"
                .to_owned(),
        ));
    }
    let now = Now::read();
    let Some(age_s) = head.age_s(&now, boot) else {
        return Err(Unfit::Outdated(
            "its file is older or younger than this clock allows, which was set since it was written"
                .to_owned(),
        ));
    };
    (&file).rewind().map_err(Unfit::Unreadable)?;
    let until = now.instant + LOAD_PATIENCE;
    let loaded = file::load(
        // The answers are counted out by the last argument; this is for a disk that hangs.
        &mut reader(&file, octets_max, until + LOAD_PATIENCE),
        &shared.cache,
        age_s,
        now.uptime_s,
        &settings.cache,
        || clock::instant() < until,
    )?;
    Ok(Some(loaded))
}

/// Reads `file` from where it stands, up to `octets_max`, and fails after `until`.
fn reader(file: &File, octets_max: u64, until: Instant) -> BufReader<Hurried<'_>> {
    let hurried = Hurried {
        file: file.take(octets_max),
        until,
    };
    BufReader::with_capacity(BUFFER_OCTETS, hurried)
}

/// A file that is read only for some time, since a disk may be slow and a file long.
struct Hurried<'a> {
    file: io::Take<&'a File>,
    until: Instant,
}

impl Read for Hurried<'_> {
    fn read(&mut self, octets: &mut [u8]) -> io::Result<usize> {
        if clock::instant() > self.until {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.file.read(octets)
    }
}

/// What the thread has.
struct Writer {
    path: PathBuf,
    shared: Arc<resolver::Shared>,
    settings: watch::Receiver<Arc<Settings>>,
    boot: [u8; 16],
    /// How many questions had been asked of upstreams when it was last written; as long as there are
    /// no more, nothing changed.
    written: Option<u64>,
    /// What was last said about writing.
    complaint: Complaint,
}

impl Writer {
    fn work(mut self, woken: &mpsc::Receiver<()>) {
        loop {
            match woken.recv_timeout(SAVE_EVERY) {
                Ok(()) => self.save(),
                Err(RecvTimeoutError::Timeout) => {
                    if self.written != Some(self.shared.counters.exchanges.value()) {
                        self.save();
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    self.save();
                    return;
                }
            }
        }
    }

    /// Failing is said once for each reason.
    fn save(&mut self) {
        // What was answered unjudged must not come back under a clock that is right.
        if self.shared.is_clock_cold() {
            return;
        }
        let exchanges = self.shared.counters.exchanges.value();
        match self.write() {
            Ok(answers) => {
                debug!(file = %self.path.display(), answers, "wrote the cache");
                self.written = Some(exchanges);
                self.complaint.end();
            }
            // Answers were forgotten meanwhile, and what was written has some of them.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                let text = format!(
                    "cannot write {}: {error}; check that truename's user may write there and the \
                     disk has room",
                    self.path.display()
                );
                if self.complaint.is_news(&text) {
                    warn!("{text}");
                }
            }
        }
    }

    fn write(&self) -> io::Result<u64> {
        let forgotten = self.shared.forgotten();
        let settings = Arc::clone(&self.settings.borrow());
        let dnssec = self.shared.dnssec_settings();
        let now = Now::read();
        let head = Head {
            unix_s: now.unix_s,
            uptime_s: now.uptime_s,
            boot: self.boot,
            judge: judge(dnssec.as_deref(), &settings),
        };
        let mut answers = 0;
        durable::replace(&self.path, MODE, |file| {
            let mut out = BufWriter::with_capacity(BUFFER_OCTETS, file);
            let times = self.shared.cache_settings();
            answers = file::save(&self.shared.cache, &head, &times, &mut out)?;
            out.flush()?;
            // All that is in the cache was judged by the settings in force: what was not is
            // forgotten when they change. So what was written was, if nothing was forgotten since.
            if self.shared.forgotten() == forgotten {
                Ok(())
            } else {
                Err(io::ErrorKind::Interrupted.into())
            }
        })?;
        Ok(answers)
    }
}

/// A digest of everything by which answers are judged: the validator's settings, who is asked for zones
/// with a route and which names nobody is asked for, and the program's version, since a later one may
/// be stricter.
fn judge(dnssec: Option<&dnssec::Settings>, settings: &Settings) -> [u8; 32] {
    let mut lines = Vec::new();
    let upstreams = &settings.upstream.upstreams;
    for route in &settings.upstream.routes {
        let is_asked = |upstream: &&UpstreamSettings| route.upstreams.contains(&upstream.name);
        let asked: Vec<_> = upstreams.iter().filter(is_asked).collect();
        lines.push(format!("route {:?} {asked:?}", route.zones));
    }
    lines.push(format!("names {:?}", settings.names));
    if let Some(settings) = dnssec {
        let dnssec::Settings {
            anchors,
            negative_trust_anchors,
            private_zones,
            sha1,
            skew_s,
        } = settings;
        for (zone, set) in anchors {
            lines.extend(set.iter().map(|ds| format!("anchor {zone} {ds:?}")));
        }
        let negative = negative_trust_anchors.iter();
        lines.extend(negative.map(|(zone, until)| format!("negative {zone} {until}")));
        lines.extend(private_zones.iter().map(|zone| format!("private {zone}")));
        lines.push(format!("sha1 {sha1}"));
        lines.push(format!("skew {skew_s}"));
    }
    lines.sort_unstable();
    lines.push(format!("truename {}", env!("CARGO_PKG_VERSION")));
    let mut octets = [0; 32];
    let text = lines.join("\n");
    for (to, from) in octets
        .iter_mut()
        .zip(digest(&SHA256, text.as_bytes()).as_ref())
    {
        *to = *from;
    }
    octets
}

/// Which boot this is; zero when the system does not say.
fn boot_id() -> [u8; 16] {
    let text = fs::read_to_string(BOOT_ID).unwrap_or_default();
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let octets = HEXLOWER_PERMISSIVE.decode(digits.as_bytes());
    octets
        .ok()
        .and_then(|octets| octets.try_into().ok())
        .unwrap_or_default()
}

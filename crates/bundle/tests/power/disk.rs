//! A disk in memory that writes down everything that is done to it.
//!
//! What a power cut may leave of it is made from what it wrote down: see [`crate::loss`].

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
};

use arkstream_bundle::{Disk, DiskFile, FileId};

/// The folder that is always there.
pub(crate) const ROOT: &str = "/disk";

/// One change of the disk.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// A name for a new, empty file.
    Create {
        path: PathBuf,
        inode: usize,
    },
    Folder {
        path: PathBuf,
    },
    Write {
        inode: usize,
        offset: usize,
        bytes: Arc<[u8]>,
    },
    Resize {
        inode: usize,
        size: usize,
    },
    Sync {
        inode: usize,
    },
    /// What was dirty may never reach the disk, even if a later sync succeeds.
    SyncFailed {
        inode: usize,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
        inode: usize,
    },
    Unlink {
        path: PathBuf,
        inode: usize,
    },
    SyncFolder {
        folder: PathBuf,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    Folder,
    File(usize),
}

/// Names and files, as they are or as they lie on the platters.
#[derive(Clone, Debug, Default)]
pub(crate) struct Image {
    pub(crate) names: BTreeMap<PathBuf, Node>,
    pub(crate) files: Vec<Vec<u8>>,
}

impl Image {
    /// An empty folder.
    pub(crate) fn empty() -> Self {
        Self {
            names: [(PathBuf::from(ROOT), Node::Folder)].into(),
            files: Vec::new(),
        }
    }

    pub(crate) fn file(&self, path: &Path) -> Option<&[u8]> {
        match self.names.get(path)? {
            Node::File(inode) => Some(&self.files[*inode]),
            Node::Folder => None,
        }
    }

    pub(crate) fn apply(&mut self, op: &Op) {
        match op {
            Op::Create { path, inode } => {
                self.files
                    .resize(self.files.len().max(inode + 1), Vec::new());
                self.names.insert(path.clone(), Node::File(*inode));
            }
            Op::Folder { path } => {
                self.names.insert(path.clone(), Node::Folder);
            }
            Op::Write {
                inode,
                offset,
                bytes,
            } => write(&mut self.files[*inode], *offset, bytes),
            Op::Resize { inode, size } => self.files[*inode].resize(*size, 0),
            Op::Rename { from, to, inode } => {
                self.names.remove(from);
                self.names.insert(to.clone(), Node::File(*inode));
            }
            Op::Unlink { path, .. } => {
                self.names.remove(path);
            }
            Op::Sync { .. } | Op::SyncFailed { .. } | Op::SyncFolder { .. } => {}
        }
    }
}

pub(crate) fn write(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    content.resize(content.len().max(end), 0);
    content[offset..end].copy_from_slice(bytes);
}

/// What kind of call it is, so that only those fail that can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Read,
    /// Needs space.
    Grow,
    Name,
    Sync,
}

/// What a disk says is synced, and is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    Bytes,
    Names,
}

/// How calls are made to fail.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    /// The number of the call, from 1.
    pub(crate) at: usize,
    pub(crate) full: bool,
    /// All calls after it fail too.
    pub(crate) lasting: bool,
}

#[derive(Debug, Default)]
struct State {
    /// What lay on the platters in the beginning.
    base: Image,
    now: Image,
    log: Vec<Op>,
    locks: BTreeSet<usize>,
    calls: Vec<Call>,
    fault: Option<Fault>,
    /// These syncs say that they are done, and do nothing.
    lie: Option<Lie>,
}

/// The disk. Clones are the same disk.
#[derive(Clone, Debug)]
pub(crate) struct SimDisk(Arc<Mutex<State>>);

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    inode: usize,
    locked: AtomicBool,
}

impl SimDisk {
    /// A disk after a start of the machine.
    pub(crate) fn of(base: Image) -> Self {
        Self::replayed(base, &[])
    }

    /// A disk on which this was done, by a process that is no more. The machine runs on.
    pub(crate) fn replayed(base: Image, log: &[Op]) -> Self {
        let mut now = base.clone();
        log.iter().for_each(|op| now.apply(op));
        Self(Arc::new(Mutex::new(State {
            base,
            now,
            log: log.to_vec(),
            ..State::default()
        })))
    }

    pub(crate) fn that_lies(base: Image, about: Lie) -> Self {
        let disk = Self::of(base);
        disk.state().lie = Some(about);
        disk
    }

    pub(crate) fn that_fails(base: Image, fault: Fault) -> Self {
        let disk = Self::of(base);
        disk.state().fault = Some(fault);
        disk
    }

    pub(crate) fn repair(&self) {
        self.state().fault = None;
    }

    pub(crate) fn port(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    /// Changes so far.
    pub(crate) fn ops(&self) -> usize {
        self.state().log.len()
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    /// What lay on the platters in the beginning, and what was done since.
    pub(crate) fn history(&self) -> (Image, Vec<Op>) {
        let state = self.state();
        (state.base.clone(), state.log.clone())
    }

    pub(crate) fn now(&self) -> Image {
        self.state().now.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Counts a call, and fails it if it is its turn.
    fn call(&self, call: Call) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        state.calls.push(call);
        let number = state.calls.len();
        if let Some(fault) = state.fault
            && (number == fault.at || fault.lasting && number > fault.at)
            && (!fault.full || call == Call::Grow)
        {
            return Err(match fault.full {
                true => io::ErrorKind::StorageFull.into(),
                false => io::Error::other("input/output error"),
            });
        }
        Ok(state)
    }
}

impl State {
    fn act(&mut self, op: Op) {
        self.now.apply(&op);
        self.log.push(op);
    }

    fn inode(&self, path: &Path) -> io::Result<usize> {
        match self.now.names.get(path) {
            Some(Node::File(inode)) => Ok(*inode),
            Some(Node::Folder) => Err(io::Error::other("it is not a file")),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn folder(&self, path: &Path) -> io::Result<PathBuf> {
        let folder = path.parent().unwrap();
        match self.now.names.get(folder) {
            Some(Node::Folder) => Ok(folder.to_owned()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl SimDisk {
    fn file(&self, inode: usize) -> Box<dyn DiskFile> {
        Box::new(SimFile {
            disk: self.clone(),
            inode,
            locked: AtomicBool::new(false),
        })
    }
}

impl Disk for SimDisk {
    fn open_private(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.call(Call::Grow)?;
        let inode = match state.inode(path) {
            Ok(inode) => {
                let names = state.now.names.values();
                if names.filter(|node| **node == Node::File(inode)).count() != 1 {
                    return Err(io::ErrorKind::PermissionDenied.into());
                }
                inode
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                state.folder(path)?;
                let (path, inode) = (path.to_owned(), state.now.files.len());
                state.act(Op::Create { path, inode });
                inode
            }
            Err(error) => return Err(error),
        };
        Ok(self.file(inode))
    }

    fn open_to_read(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let inode = self.call(Call::Read)?.inode(path)?;
        Ok(self.file(inode))
    }

    fn id_of(&self, path: &Path) -> io::Result<Option<FileId>> {
        let state = self.call(Call::Read)?;
        Ok(match state.now.names.get(path) {
            Some(Node::File(inode)) => Some(id(*inode)),
            Some(Node::Folder) => Some(id(usize::MAX)),
            None => None,
        })
    }

    fn rename_no_replace(&self, from: &Path, to: &Path) -> io::Result<()> {
        if self.state().now.names.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.rename(from, to)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.call(Call::Grow)?;
        let inode = state.inode(from)?;
        assert_eq!(from.parent(), to.parent(), "within one folder");
        let (from, to) = (from.to_owned(), to.to_owned());
        state.act(Op::Rename { from, to, inode });
        Ok(())
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        let mut state = self.call(Call::Name)?;
        let inode = state.inode(path)?;
        let path = path.to_owned();
        state.act(Op::Unlink { path, inode });
        Ok(())
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.call(Call::Grow)?;
        state.folder(path)?;
        if state.now.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let path = path.to_owned();
        state.act(Op::Folder { path });
        Ok(())
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let state = self.call(Call::Read)?;
        let names = state.now.names.keys();
        let within = names.filter(|path| path.parent() == Some(folder));
        Ok(within.cloned().collect())
    }

    fn sync_folder_of(&self, path: &Path) -> io::Result<()> {
        let mut state = self.call(Call::Sync)?;
        if path == Path::new(ROOT) {
            return Ok(());
        }
        let folder = state.folder(path)?;
        if state.lie != Some(Lie::Names) {
            state.act(Op::SyncFolder { folder });
        }
        Ok(())
    }
}

fn id(inode: usize) -> FileId {
    FileId {
        device: 1,
        inode: inode as u64,
    }
}

impl DiskFile for SimFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.disk.call(Call::Read)?;
        let start = offset as usize;
        let bytes = state.now.files[self.inode]
            .get(start..start + buffer.len())
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.call(Call::Grow)?;
        // A disk that is about to be full takes a part of it.
        let next = state.calls.len() + 1;
        let nearly_full = state
            .fault
            .is_some_and(|fault| fault.full && fault.at == next);
        let taken = match nearly_full {
            true => bytes.len().div_ceil(2),
            false => bytes.len(),
        };
        state.act(Op::Write {
            inode: self.inode,
            offset: offset as usize,
            bytes: bytes[..taken].into(),
        });
        Ok(taken)
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        let mut state = self.disk.call(Call::Grow)?;
        state.act(Op::Resize {
            inode: self.inode,
            size: size as usize,
        });
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.disk.call(Call::Read)?.now.files[self.inode].len() as u64)
    }

    fn sync_data(&self) -> io::Result<()> {
        let inode = self.inode;
        let mut state = match self.disk.call(Call::Sync) {
            Ok(state) => state,
            Err(error) => {
                self.disk.state().act(Op::SyncFailed { inode });
                return Err(error);
            }
        };
        if state.lie != Some(Lie::Bytes) {
            state.act(Op::Sync { inode });
        }
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn lock(&self) -> io::Result<bool> {
        let free = self.disk.call(Call::Read)?.locks.insert(self.inode);
        self.locked.fetch_or(free, Ordering::SeqCst);
        Ok(free)
    }

    fn id(&self) -> io::Result<FileId> {
        self.disk.call(Call::Read).map(|_| id(self.inode))
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        if self.locked.load(Ordering::SeqCst) {
            self.disk.state().locks.remove(&self.inode);
        }
    }
}

//! A disk that fails on demand and knows what a crash at any step would leave.

use std::collections::BTreeMap;

use std::sync::MutexGuard;

use super::*;
use crate::log::files::{Appender, Stat};

pub(super) const EIO: i32 = 5;
pub(super) const ENOSPC: i32 = 28;
pub(super) const EROFS: i32 = 30;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Op {
    Create,
    Append,
    Rename,
    Exchange,
    Overwrite,
    Remove,
    SyncDir,
    Allocate,
    Write,
    Sync,
    Truncate,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    None,
    /// The operation does nothing and fails.
    Fail(i32),
    /// A write stores this number of bytes and fails.
    Partial(usize, i32),
}

/// The names and contents of a folder.
pub(super) type Image = BTreeMap<String, Vec<u8>>;
type Plan = dyn FnMut(u64, Op, &str) -> Fault + Send;
/// Called before each operation, and during each write.
type Watch = Box<dyn FnMut(&World) + Send>;

#[derive(Clone, Default)]
struct Node {
    content: Vec<u8>,
    /// The content at the last sync.
    synced: Vec<u8>,
}

#[derive(Default)]
pub(super) struct World {
    nodes: Vec<Node>,
    names: BTreeMap<String, usize>,
    /// The names at the last sync of the folder.
    synced_names: BTreeMap<String, usize>,
}

impl World {
    /// What is there when the process is killed.
    pub(super) fn killed(&self) -> Image {
        self.names
            .iter()
            .map(|(name, node)| (name.clone(), self.nodes[*node].content.clone()))
            .collect()
    }

    /// What is there after a power loss: the names at the last sync or now, and `kept` of the bytes appended since the last sync,
    /// or as many zeros. File systems order a replaced file before its new name (ext4, btrfs, XFS).
    pub(super) fn power_lost(&self, new_names: bool, kept: usize, zeros: bool) -> Image {
        let names = if new_names {
            &self.names
        } else {
            &self.synced_names
        };
        let content = |name: &str, node: &Node| {
            if name == "checkpoint" || !node.content.starts_with(&node.synced) {
                return node.content.clone();
            }
            let end = node.content.len().min(node.synced.len() + kept);
            let mut content = node.content[..end].to_vec();
            if zeros {
                content[node.synced.len()..].fill(0);
            }
            content
        };
        names
            .iter()
            .map(|(name, node)| (name.clone(), content(name, &self.nodes[*node])))
            .collect()
    }
}

type Stepped<'a> = (MutexGuard<'a, Inner>, Option<(usize, i32)>);

struct Inner {
    disk: Disk,
    world: World,
    step: u64,
    plan: Arc<Mutex<Box<Plan>>>,
    watch: Watch,
}

#[derive(Clone)]
pub(super) struct Sim {
    dir: PathBuf,
    inner: Arc<Mutex<Inner>>,
}

impl Sim {
    pub(super) fn new(dir: &Path) -> Self {
        let mut world = World::default();
        for name in names(dir) {
            let content = fs::read(dir.join(&name)).unwrap();
            world.names.insert(name, world.nodes.len());
            world.nodes.push(Node {
                synced: content.clone(),
                content,
            });
        }
        world.synced_names = world.names.clone();
        let disk = Disk::new(dir);
        let inner = Inner {
            disk,
            world,
            step: 0,
            plan: no_faults(),
            watch: Box::new(|_| ()),
        };
        Self {
            dir: dir.to_owned(),
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    /// From now on, `plan` decides the fault of each step, operation and file.
    pub(super) fn plan(&self, plan: impl FnMut(u64, Op, &str) -> Fault + Send + 'static) {
        lock(&self.inner).plan = Arc::new(Mutex::new(Box::new(plan)));
    }

    pub(super) fn watch(&self, watch: impl FnMut(&World) + Send + 'static) {
        lock(&self.inner).watch = Box::new(watch);
    }

    /// Asks the plan for a fault. Returns the length to write, if it is not all of it, and its error.
    ///
    /// A plan may wait for the test, which must still be able to replace it.
    fn step(&self, op: Op, name: &str) -> io::Result<Stepped<'_>> {
        let mut inner = lock(&self.inner);
        inner.step += 1;
        let (step, plan) = (inner.step, Arc::clone(&inner.plan));
        inner.watch();
        drop(inner);
        let fault = lock(&plan)(step, op, name);
        match fault {
            Fault::None => Ok((lock(&self.inner), None)),
            Fault::Partial(bytes, error) if op == Op::Write => Ok((lock(&self.inner), Some((bytes, error)))),
            Fault::Fail(error) | Fault::Partial(_, error) => Err(io::Error::from_raw_os_error(error)),
        }
    }

    fn opened(&self, file: Box<dyn Appender>, node: usize) -> Box<dyn Appender> {
        Box::new(SimFile {
            sim: self.clone(),
            file,
            node,
        })
    }
}

fn no_faults() -> Arc<Mutex<Box<Plan>>> {
    Arc::new(Mutex::new(Box::new(|_, _, _| Fault::None)))
}

impl Inner {
    fn watch(&mut self) {
        (self.watch)(&self.world);
    }
}

impl Files for Sim {
    fn dir(&self) -> &Path {
        &self.dir
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn Appender>> {
        let (mut inner, _) = self.step(Op::Create, name)?;
        let file = inner.disk.create(name)?;
        let node = inner.world.nodes.len();
        inner.world.nodes.push(Node::default());
        inner.world.names.insert(name.to_owned(), node);
        Ok(self.opened(file, node))
    }

    fn append(&self, name: &str) -> io::Result<Box<dyn Appender>> {
        let (inner, _) = self.step(Op::Append, name)?;
        Ok(self.opened(inner.disk.append(name)?, inner.world.names[name]))
    }

    fn stat(&self, name: &str) -> io::Result<Stat> {
        lock(&self.inner).disk.stat(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (mut inner, _) = self.step(Op::Rename, to)?;
        inner.disk.rename(from, to)?;
        let node = inner.world.names.remove(from).unwrap();
        inner.world.names.insert(to.to_owned(), node);
        Ok(())
    }

    fn exchange(&self, one: &str, other: &str) -> io::Result<()> {
        let (mut inner, _) = self.step(Op::Exchange, other)?;
        inner.disk.exchange(one, other)?;
        let (a, b) = (inner.world.names[one], inner.world.names[other]);
        inner
            .world
            .names
            .extend([(one.to_owned(), b), (other.to_owned(), a)]);
        Ok(())
    }

    fn overwrite(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let (mut inner, _) = self.step(Op::Overwrite, name)?;
        inner.disk.overwrite(name, bytes)?;
        let node = inner.world.names[name];
        assert_eq!(inner.world.nodes[node].content.len(), bytes.len());
        inner.world.nodes[node].content = bytes.to_vec();
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let (mut inner, _) = self.step(Op::Remove, name)?;
        inner.disk.remove(name)?;
        inner.world.names.remove(name);
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let (mut inner, _) = self.step(Op::SyncDir, "")?;
        inner.world.synced_names = inner.world.names.clone();
        Ok(())
    }

    fn allocate(&self, name: &str, bytes: u64) -> io::Result<()> {
        let (inner, _) = self.step(Op::Allocate, name)?;
        inner.disk.allocate(name, bytes)
    }
}

struct SimFile {
    sim: Sim,
    file: Box<dyn Appender>,
    node: usize,
}

impl SimFile {
    fn step(&self, op: Op) -> io::Result<Stepped<'_>> {
        let name = {
            let inner = lock(&self.sim.inner);
            let name = inner.world.names.iter().find(|(_, node)| **node == self.node);
            name.map(|(name, _)| name.clone()).unwrap_or_default()
        };
        self.sim.step(op, &name)
    }
}

impl Appender for SimFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (mut inner, partial) = self.step(Op::Write)?;
        let done = partial.map_or(bytes.len(), |(done, _)| done.min(bytes.len()));
        let (first, second) = bytes[..done].split_at(done / 2);
        inner.world.nodes[self.node].content.extend_from_slice(first);
        inner.watch();
        inner.world.nodes[self.node].content.extend_from_slice(second);
        drop(inner);
        self.file.write(&bytes[..done])?;
        partial.map_or(Ok(()), |(_, error)| Err(io::Error::from_raw_os_error(error)))
    }

    fn sync(&mut self) -> io::Result<()> {
        let (mut inner, _) = self.step(Op::Sync)?;
        let node = &mut inner.world.nodes[self.node];
        node.synced = node.content.clone();
        Ok(())
    }

    fn stat(&self) -> io::Result<Stat> {
        self.file.stat()
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        let (mut inner, _) = self.step(Op::Truncate)?;
        inner.world.nodes[self.node].content.truncate(length as usize);
        drop(inner);
        self.file.truncate(length)
    }
}

//! The simulated sides of the public socket types: same methods, same readiness, no kernel.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use super::super::local;
use super::super::net::{ConnectOptions, ListenOptions};
use super::super::readiness::Readiness;
use super::super::time::sleep;
use super::super::watch::Watch;
use super::World;
use super::connection::{Custody, EndId};
use super::dialling::Dial;
use super::namespace::SimNamespace;

/// How long an accept that found no descriptor left waits before the next.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(5);

/// A simulated connection.
#[derive(Debug)]
pub(crate) struct SimStream {
    world: World,
    end: EndId,
    watch: Rc<Watch>,
    /// Closing resets.
    reset: Cell<bool>,
    /// Somebody else has it now.
    detached: bool,
}

impl SimStream {
    pub(crate) async fn connect(
        namespace: SimNamespace,
        options: &ConnectOptions,
        destination: SocketAddr,
    ) -> io::Result<(SimStream, bool)> {
        let world = World::of(namespace)?;
        // A source address of the wrong family cannot be had, as from the kernel.
        let source = options.source.filter(|source| source.is_ipv4() == destination.is_ipv4());
        if options.source.is_some() && source.is_none() && options.source_required {
            return Err(ErrorKind::AddrNotAvailable.into());
        }
        let (namespace, mark) = (namespace.index, options.mark);
        let dial = Dial { namespace, mark, source, destination };
        let (end, watch) = world.network.borrow_mut().dial(dial)?;
        let stream = SimStream::new(world, end, watch);
        poll_fn(|cx| stream.watch.poll_writable(cx)).await;
        match stream.take_error() {
            Some(error) => Err(error),
            None => {
                debug_assert!(stream.world.network.borrow_mut().is_connected(end));
                Ok((stream, source.is_some()))
            }
        }
    }

    fn held(world: World, end: EndId) -> SimStream {
        let watch = {
            let mut network = world.network.borrow_mut();
            let held = network.end(end).expect("an end in the queue is there");
            held.custody = Custody::Program;
            held.watch.clone()
        };
        watch.set(Readiness::READABLE.or(Readiness::WRITABLE));
        SimStream::new(world, end, watch)
    }

    fn new(world: World, end: EndId, watch: Rc<Watch>) -> SimStream {
        SimStream { world, end, watch, reset: Cell::new(false), detached: false }
    }

    pub(crate) fn watch(&self) -> &Watch {
        &self.watch
    }

    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len();
        let got = self.attempt(Readiness::READABLE, |network| network.read(self.end, buffer))?;
        self.watch.check_end(got, wanted)?;
        self.watch.after_read(got, wanted);
        Ok(got)
    }

    pub(crate) fn try_readv(&self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let wanted = buffers.iter().map(|buffer| buffer.len()).sum();
        let mut all = vec![0; wanted];
        let got = self.try_read(&mut all)?;
        let mut rest = &all[..got];
        for buffer in buffers {
            let (now, later) = rest.split_at(rest.len().min(buffer.len()));
            buffer[..now.len()].copy_from_slice(now);
            rest = later;
        }
        Ok(got)
    }

    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let got = self.attempt(Readiness::WRITABLE, |network| network.write(self.end, bytes))?;
        self.watch.after_write(got, bytes.len());
        Ok(got)
    }

    pub(crate) fn try_writev(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let all: Vec<u8> = buffers.iter().flat_map(|buffer| buffer.iter().copied()).collect();
        self.try_write(&all)
    }

    fn attempt(
        &self,
        direction: Readiness,
        call: impl FnOnce(&mut super::network::Network) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let hope = match direction {
            Readiness::READABLE => self.watch.is_readable(),
            _ => self.watch.is_writable(),
        };
        if !hope {
            return Err(ErrorKind::WouldBlock.into());
        }
        let result = call(&mut self.world.network.borrow_mut());
        result.inspect_err(|error| match error.kind() {
            ErrorKind::WouldBlock => self.watch.clear(direction.or(Readiness::ERROR)),
            ErrorKind::BrokenPipe => {}
            _ => self.watch.set(Readiness::ABORTED),
        })
    }

    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        self.world.network.borrow_mut().shutdown_write(self.end)
    }

    pub(crate) fn reset_on_close(&self) {
        self.reset.set(true);
    }

    pub(crate) fn take_error(&self) -> Option<io::Error> {
        let kind = self.world.network.borrow_mut().take_error(self.end)?;
        if kind != ErrorKind::BrokenPipe {
            self.watch.set(Readiness::ABORTED);
        }
        Some(kind.into())
    }

    pub(crate) fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.address(|end| end.peer)
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.address(|end| end.local)
    }

    pub(crate) fn original_destination(&self) -> io::Result<SocketAddr> {
        self.address(|end| end.original)
    }

    fn address(
        &self,
        which: impl FnOnce(&super::connection::End) -> SocketAddr,
    ) -> io::Result<SocketAddr> {
        let mut network = self.world.network.borrow_mut();
        let end = network.end(self.end).ok_or(ErrorKind::NotConnected)?;
        Ok(which(end))
    }

    /// Lets go of the connection without closing it.
    pub(crate) fn detach(mut self) -> SimDetached {
        self.detached = true;
        SimDetached { world: self.world.id, end: Some(self.end) }
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        let mut network = self.world.network.borrow_mut();
        match self.reset.get() {
            _ if self.detached => {}
            true => network.abort(self.end),
            false => network.close(self.end),
        }
    }
}

/// A simulated connection between two shards.
#[derive(Debug)]
pub(crate) struct SimDetached {
    world: u64,
    end: Option<EndId>,
}

impl SimDetached {
    pub(crate) fn attach(mut self) -> SimStream {
        let world = World::current().filter(|world| world.id == self.world);
        let world = world.expect("a simulated connection stays in its world");
        SimStream::held(world, self.end.take().expect("attached once"))
    }
}

impl Drop for SimDetached {
    fn drop(&mut self) {
        let world = World::current().filter(|world| world.id == self.world);
        if let (Some(end), Some(world)) = (self.end.take(), world) {
            world.network.borrow_mut().close(end);
        }
    }
}

/// A simulated listener.
#[derive(Debug)]
pub(crate) struct SimListener {
    world: World,
    index: usize,
    address: SocketAddr,
    transparent: bool,
    watch: Rc<Watch>,
}

impl SimListener {
    pub(crate) fn bind(
        namespace: SimNamespace,
        address: SocketAddr,
        options: &ListenOptions,
    ) -> io::Result<SimListener> {
        let world = World::of(namespace)?;
        let watch = Rc::new(Watch::new(Readiness::READABLE));
        let (reuse_port, backlog) = (options.reuse_port, options.backlog);
        let (index, address) = world.network.borrow_mut().listen(
            namespace.index,
            address,
            reuse_port,
            backlog,
            &watch,
        )?;
        let transparent = options.transparent;
        Ok(SimListener { world, index, address, transparent, watch })
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn is_transparent(&self) -> bool {
        self.transparent
    }

    pub(crate) fn try_accept(&self) -> io::Result<(SimStream, SocketAddr)> {
        let end = self.world.network.borrow_mut().accept(self.index);
        let Some(end) = end else {
            self.watch.clear(Readiness::READABLE);
            return Err(ErrorKind::WouldBlock.into());
        };
        let stream = SimStream::held(self.world.clone(), end);
        let peer = stream.peer_addr()?;
        Ok((stream, peer))
    }

    pub(crate) async fn accept(&self) -> io::Result<(SimStream, SocketAddr)> {
        loop {
            // A shortage is a pause, as on the kernel's listeners.
            while self.world.network.borrow_mut().is_short(self.index) {
                local::expect_current("accept").count(|counters| counters.accept_exhausted += 1);
                sleep(SHORTAGE_PAUSE).await;
            }
            match self.try_accept() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable().await,
                accepted => return accepted,
            }
        }
    }

    async fn readable(&self) {
        poll_fn(|cx| {
            if self.watch.is_readable() {
                return Poll::Ready(());
            }
            self.watch.wait_readable(cx);
            Poll::Pending
        })
        .await;
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        self.world.network.borrow_mut().close_listener(self.index);
    }
}

impl World {
    /// The running world, which must be the namespace's.
    fn of(namespace: SimNamespace) -> io::Result<World> {
        let world = World::current().filter(|world| world.id == namespace.world);
        world.ok_or_else(|| io::Error::other("a simulated namespace outside of its world"))
    }
}

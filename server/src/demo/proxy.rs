//! The network between the nodes of a demo: a TCP proxy for each ordered pair of nodes, which can be cut,
//! slowed down and reset, without any privilege.
//!
//! ```text
//!             the stream of 1 to 2, with its calls                 Weather: cuts, delays
//!   node 1 -----------------------------> proxy 1>2 --------> node 2   |
//!          <-----------------------------           <--------          v
//!          <----------------------------- proxy 2>1 <-------- node 2   asked by every pump
//! ```
//!
//! - Node 1 sends its messages to node 2 on connections that it dials itself. So **a cut 1>2 holds what
//!   node 1 writes on those**; what comes back on them, acknowledgements and answers, is held only if 2>1 is
//!   cut too, and the stream of node 2 to node 1 goes on. Were the acknowledgements of that one held as well,
//!   each one-way partition would be a whole one as soon as a ping is missed.
//! - What is held is not lost: when the cut is healed, it arrives late, as TCP would send it again. A node
//!   whose connection falls silent gives it up after a while, and meets a cut again when it dials: a
//!   new connection is broken at once, in the place of one that never comes about.
//! - Delays keep the order of bytes. A slow node is slow on all its ways, in both directions.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;

/// What is read at once, in bytes.
const CHUNK_BYTES: usize = 64 << 10;
/// What may wait for its time in one direction of a connection, in bytes; then its sender waits.
const HELD_BYTES_MAX: usize = 8 << 20;
/// How long a node may take to answer a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// The pause after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How slow all ways from and to a node are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slow {
    /// Added to each way.
    pub delay: Duration,
    /// At most so much is added to the delay, anew for each piece.
    pub jitter: Duration,
    /// Bytes a second; 0: no bound.
    pub bytes_per_s: u64,
}

/// The state of the whole network.
#[derive(Clone, Debug, Default)]
pub struct Weather {
    /// From whom to whom nothing arrives.
    pub cuts: BTreeSet<(u64, u64)>,
    /// Slow nodes.
    pub slow: BTreeMap<u64, Slow>,
    /// How often the connections of a node were reset.
    pub resets: BTreeMap<u64, u64>,
}

/// One direction of a connection.
#[derive(Clone, Copy)]
struct Way {
    /// Who dialled, and whom.
    link: (u64, u64),
    /// Whether this is the way back.
    back: bool,
}

/// What happens to bytes on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Path {
    cut: bool,
    slow: Slow,
    resets: u64,
}

impl Weather {
    fn path(&self, way: Way) -> Path {
        let (from, to) = way.link;
        let there = self.cuts.contains(&(from, to));
        let cut = if way.back { there && self.cuts.contains(&(to, from)) } else { there };
        let mut slow = Slow::default();
        for one in [from, to].iter().filter_map(|node| self.slow.get(node)) {
            slow.delay += one.delay;
            slow.jitter += one.jitter;
            // The narrower bound holds.
            let bounds = [slow.bytes_per_s, one.bytes_per_s];
            slow.bytes_per_s = bounds.into_iter().filter(|bound| *bound > 0).min().unwrap_or(0);
        }
        let resets = [from, to].iter().filter_map(|node| self.resets.get(node)).sum();
        Path { cut, slow, resets }
    }
}

/// All proxies of a demo. Their tasks end with the runtime.
pub struct Net {
    weather: Arc<watch::Sender<Weather>>,
    proxies: BTreeMap<(u64, u64), SocketAddr>,
}

impl Net {
    /// Opens a proxy for each ordered pair of these nodes, which forwards to their addresses.
    pub async fn open(nodes: &[(u64, String)]) -> io::Result<Net> {
        let weather = Arc::new(watch::Sender::new(Weather::default()));
        let mut proxies = BTreeMap::new();
        for (from, _) in nodes {
            for (to, address) in nodes.iter().filter(|(to, _)| to != from) {
                let listener = TcpListener::bind("127.0.0.1:0").await?;
                proxies.insert((*from, *to), listener.local_addr()?);
                tokio::spawn(serve(listener, (*from, *to), address.clone(), weather.subscribe()));
            }
        }
        Ok(Net { weather, proxies })
    }

    /// For `--peer-via`: the proxies by which a node reaches the others.
    pub fn via(&self, node: u64) -> String {
        let own = self.proxies.iter().filter(|((from, _), _)| *from == node);
        own.map(|((_, to), address)| format!("{to}={address}")).collect::<Vec<_>>().join(",")
    }

    /// Changes the network.
    pub fn change(&self, change: impl FnOnce(&mut Weather)) {
        self.weather.send_modify(change);
    }
}

async fn serve(listener: TcpListener, link: (u64, u64), address: String, weather: watch::Receiver<Weather>) {
    for number in 0.. {
        let dialled = match listener.accept().await {
            Ok((dialled, _)) => dialled,
            Err(err) => {
                // Too many open files, most likely: others will be closed.
                tracing::debug!("a proxy cannot accept: {err}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if weather.borrow().path(Way { link, back: false }).cut {
            continue;
        }
        let (address, weather) = (address.clone(), weather.clone());
        let rng = ChaCha8Rng::seed_from_u64(link.0 << 48 ^ link.1 << 32 ^ number);
        // A connection that breaks is the nodes' to notice.
        tokio::spawn(async move { forward(dialled, &address, link, weather, rng).await });
    }
}

async fn forward(
    dialled: TcpStream,
    address: &str,
    link: (u64, u64),
    weather: watch::Receiver<Weather>,
    mut rng: ChaCha8Rng,
) -> io::Result<()> {
    let target = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await??;
    dialled.set_nodelay(true)?;
    target.set_nodelay(true)?;
    let (from_dialler, to_dialler) = dialled.into_split();
    let (from_target, to_target) = target.into_split();
    let seed = rng.random();
    let there = Pump::new(from_dialler, to_target, weather.clone(), Way { link, back: false }, rng);
    let back = Pump::new(from_target, to_dialler, weather, Way { link, back: true }, ChaCha8Rng::seed_from_u64(seed));
    tokio::try_join!(there.run(), back.run()).map(|_| ())
}

/// Carries bytes one way.
struct Pump {
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    weather: watch::Receiver<Weather>,
    way: Way,
    rng: ChaCha8Rng,
    /// What waits for its time, in order.
    held: VecDeque<(Instant, Vec<u8>)>,
    held_bytes: usize,
    /// No piece may overtake the one before.
    last_due: Instant,
    /// When a narrow way has room for the next piece.
    free_at: Instant,
}

impl Pump {
    fn new(
        from: OwnedReadHalf,
        to: OwnedWriteHalf,
        weather: watch::Receiver<Weather>,
        way: Way,
        rng: ChaCha8Rng,
    ) -> Pump {
        let now = Instant::now();
        Pump { from, to, weather, way, rng, held: VecDeque::new(), held_bytes: 0, last_due: now, free_at: now }
    }

    /// Until the sender has ended and everything has arrived, or either side is gone.
    async fn run(mut self) -> io::Result<()> {
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut ended = false;
        let resets = self.weather.borrow().path(self.way).resets;
        loop {
            let path = self.weather.borrow_and_update().path(self.way);
            if path.resets != resets {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            while !path.cut
                && let Some((due, piece)) = self.held.pop_front()
            {
                if due > Instant::now() {
                    self.held.push_front((due, piece));
                    break;
                }
                self.held_bytes -= piece.len();
                self.to.write_all(&piece).await?;
            }
            if ended && self.held.is_empty() {
                return self.to.shutdown().await;
            }
            let due = self.held.front().map(|(due, _)| *due).filter(|_| !path.cut);
            let reads = !ended && !path.cut && self.held_bytes < HELD_BYTES_MAX;
            tokio::select! {
                read = self.from.read(&mut buffer), if reads => {
                    let piece = &buffer[..read?];
                    ended = piece.is_empty();
                    self.take(piece).await?;
                }
                () = tokio::time::sleep_until(due.unwrap_or(self.last_due)), if due.is_some() => {}
                changed = self.weather.changed() => {
                    changed.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
                }
            }
        }
    }

    /// Passes a piece on at once if nothing keeps it, or keeps it until its time.
    async fn take(&mut self, piece: &[u8]) -> io::Result<()> {
        let path = self.weather.borrow().path(self.way);
        if piece.is_empty() {
            return Ok(());
        }
        if !path.cut && path.slow == Slow::default() && self.held.is_empty() {
            return self.to.write_all(piece).await;
        }
        let now = Instant::now();
        let mut due = now + path.slow.delay;
        if !path.slow.jitter.is_zero() {
            due += path.slow.jitter.mul_f64(self.rng.random());
        }
        if let Some(ns) = (piece.len() as u64 * 1_000_000_000).checked_div(path.slow.bytes_per_s) {
            self.free_at = self.free_at.max(now) + Duration::from_nanos(ns);
            due = due.max(self.free_at);
        }
        self.last_due = self.last_due.max(due);
        self.held_bytes += piece.len();
        self.held.push_back((self.last_due, piece.to_vec()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An echo server as node 2, and a connection of node 1 to it.
    async fn echo() -> (Net, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let two = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.into_split();
                    tokio::io::copy(&mut read, &mut write).await
                });
            }
        });
        let net = Net::open(&[(1, "127.0.0.1:1".into()), (2, two.to_string())]).await.unwrap();
        let via = net.via(1);
        let address = via.strip_prefix("2=").unwrap().parse().unwrap();
        (net, address)
    }

    async fn says(stream: &mut TcpStream, text: &[u8]) -> Vec<u8> {
        stream.write_all(text).await.unwrap();
        let mut answer = vec![0; text.len()];
        stream.read_exact(&mut answer).await.unwrap();
        answer
    }

    /// Nothing arrives, though there is time for it.
    async fn silent(stream: &mut TcpStream) -> bool {
        tokio::time::timeout(Duration::from_millis(60), stream.read_u8()).await.is_err()
    }

    #[tokio::test]
    async fn a_cut_holds_bytes_and_breaks_new_connections_until_it_is_healed() {
        let (net, address) = echo().await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        assert_eq!(says(&mut stream, b"before").await, b"before");
        net.change(|weather| weather.cuts = [(1, 2)].into());
        stream.write_all(b"late").await.unwrap();
        assert!(silent(&mut stream).await);
        let mut refused = TcpStream::connect(address).await.unwrap();
        assert!(!matches!(refused.read(&mut [0]).await, Ok(1..)));
        net.change(|weather| weather.cuts.clear());
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"late");
    }

    #[tokio::test]
    async fn the_way_back_is_open_unless_both_ways_are_cut() {
        let (net, address) = echo().await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        net.change(|weather| weather.cuts = [(2, 1)].into());
        assert_eq!(says(&mut stream, b"x").await, b"x");
        net.change(|weather| weather.cuts = [(1, 2), (2, 1)].into());
        stream.write_all(b"y").await.unwrap();
        assert!(silent(&mut stream).await);
        net.change(|weather| *weather = Weather::default());
        assert_eq!(stream.read_u8().await.unwrap(), b'y');
    }

    #[tokio::test]
    async fn a_slow_way_keeps_the_order_and_takes_its_time() {
        let (net, address) = echo().await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        assert_eq!(says(&mut stream, b"x").await, b"x");
        let slow = Slow { delay: Duration::from_millis(20), jitter: Duration::from_millis(5), ..Slow::default() };
        net.change(|weather| weather.slow = BTreeMap::from([(2, slow)]));
        let began = Instant::now();
        let text: Vec<u8> = (0..200_000u32).map(|n| n as u8).collect();
        let (mut read, mut write) = stream.into_split();
        let sent = text.clone();
        let writing = tokio::spawn(async move { write.write_all(&sent).await.map(|()| write) });
        let mut answer = vec![0; text.len()];
        read.read_exact(&mut answer).await.unwrap();
        assert!(answer == text && began.elapsed() >= Duration::from_millis(40), "{:?}", began.elapsed());
        let mut stream = read.reunite(writing.await.unwrap().unwrap()).unwrap();
        // 20,000 bytes at 100,000 a second, and the same back.
        let narrow = Slow { bytes_per_s: 100_000, ..Slow::default() };
        net.change(|weather| weather.slow = BTreeMap::from([(2, narrow)]));
        let began = Instant::now();
        says(&mut stream, &[7; 20_000]).await;
        assert!(began.elapsed() >= Duration::from_millis(200), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn a_reset_breaks_connections_once() {
        let (net, address) = echo().await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        assert_eq!(says(&mut stream, b"x").await, b"x");
        net.change(|weather| *weather.resets.entry(2).or_default() += 1);
        assert!(!matches!(stream.read(&mut [0]).await, Ok(1..)));
        let mut again = TcpStream::connect(address).await.unwrap();
        assert_eq!(says(&mut again, b"y").await, b"y");
    }
}

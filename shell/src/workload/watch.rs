//! The seconds of a run: a line for each, while the clients work.

use std::future::Future;
use std::io::Write as _;
use std::time::{Duration, Instant};

use super::history::Recorder;
use super::meter::Meter;
use super::tally::{Counts, Tally, line};
use crate::out::Out;

/// The heading is repeated after so many lines.
const HEADING_EVERY: u64 = 20;

/// What is watched.
pub struct Watch<'a> {
    /// When the clients began.
    pub began: Instant,
    /// For how long they work.
    pub duration: Duration,
    /// Above the columns.
    pub heading: &'a str,
    /// What the clients count.
    pub tallies: &'a [Tally],
    /// What they record.
    pub recorder: &'a Recorder,
}

impl Watch<'_> {
    /// Prints a line each second until the time is over, or `stop` ends; adds up in `total`.
    pub async fn run(self, stop: impl Future<Output = ()>, total: &mut Counts, meter: &mut Meter, lines: &mut Out) {
        let end = tokio::time::sleep_until((self.began + self.duration).into());
        tokio::pin!(end, stop);
        let second = Duration::from_secs(1);
        let mut seconds = tokio::time::interval_at((self.began + second).into(), second);
        seconds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last = self.began;
        let mut printed = 0;
        loop {
            tokio::select! {
                () = &mut end => return,
                () = &mut stop => {
                    lines.line("interrupted; the report follows");
                    return;
                }
                _ = seconds.tick() => {}
            }
            let mut now = Counts::default();
            for tally in self.tallies {
                tally.drain_into(&mut now);
            }
            total.add(&now);
            let instant = Instant::now();
            if printed % HEADING_EVERY == 0 {
                lines.line(self.heading);
            }
            printed += 1;
            lines.line(line(self.began.elapsed(), instant - last, &now, total));
            let _ = lines.flush();
            last = instant;
            // A crash of this process must not take more than the last second with it. An error is kept for
            // the end.
            let _ = self.recorder.flush();
            meter.look().await;
            meter.note(self.recorder);
        }
    }
}

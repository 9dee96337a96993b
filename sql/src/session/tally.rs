//! What is remembered of each statement and commit, and the statements that read it: those on system
//! tables.

use std::sync::Arc;

use super::Session;
use super::block::Block;
use super::database::Cached;
use super::run::{Ran, stream};
use super::timeout::in_time;
use crate::SqlError;
use crate::engine::{CommitInfo, Engine};
use crate::expr::EvalContext;
use crate::plan::Planned;
use crate::short::{self, Reader};
use crate::sink::Sink;
use crate::system::{Seen, SystemTable};
use crate::types::Datum;

impl<E: Engine> Session<E> {
    /// Runs a statement and remembers how it went.
    pub(super) async fn statement<S: Sink>(
        &mut self,
        cached: &Cached,
        params: &[Datum],
        sink: &mut S,
    ) -> Result<Option<Arc<Planned>>, SqlError> {
        let start_ns = self.db.engine().mono_ns();
        self.tally = Seen::default();
        let result = self.dispatch(cached, params, sink).await;
        let elapsed_ns = self.db.engine().mono_ns() - start_ns;
        self.db.statistics().note(&cached.fingerprint, Seen { failed: result.is_err(), elapsed_ns, ..self.tally });
        result
    }

    /// A transaction of this session has committed.
    pub(super) fn committed(&mut self, info: &CommitInfo) {
        if info.commit_ts.is_some() {
            self.db.statistics().note_commit(info);
        }
        self.last_commit = Some(info.clone());
    }

    /// Runs a plan over a system table: at the present, in any block, and without locks.
    pub(super) async fn run_system<S: Sink>(
        &mut self,
        planned: &Planned,
        table: &SystemTable,
        params: &[Datum],
        sink: Option<&mut S>,
    ) -> Result<Ran, SqlError> {
        let now = match &self.block {
            Block::Open(open) => open.now,
            Block::ReadOnly(block) => block.now,
            _ => self.db.engine().now().latest,
        };
        let rows = in_time(self.db.engine(), self.deadline, self.db.system_rows(table, &self.settings)).await?;
        let mut output = stream(sink, &planned.columns);
        let mut reader: Reader<'_, E> = Reader::Rows(rows);
        let engine = self.db.engine().clone();
        let context = EvalContext { params, now, random: &engine };
        let counts = short::run(&planned.plan, &context, &mut reader, &mut output).await?;
        output.finish().await?;
        Ok(Ran { counts, commit: None, read_ts: None, lock_wait_ns: 0 })
    }
}

//! EXPLAIN and EXPLAIN ANALYZE.

use std::sync::Arc;

use super::Session;
use super::database::Cached;
use super::run::{send, tag};
use crate::SqlError;
use crate::engine::Engine;
use crate::explain;
use crate::parse::Statement;
use crate::show::text_columns;
use crate::sink::{ColumnInfo, Completion, Sink};
use crate::types::Datum;

pub(super) fn columns() -> Vec<ColumnInfo> {
    text_columns(&["QUERY PLAN"])
}

impl<E: Engine> Session<E> {
    pub(super) async fn explain<S: Sink>(
        &mut self,
        analyze: bool,
        statement: &Statement,
        params: &[Datum],
        sink: &mut S,
    ) -> Result<Completion, SqlError> {
        let cached = Cached { statement: Arc::new(statement.clone()), planned: None };
        let mut done = tag("EXPLAIN");
        let lines = if analyze {
            let start = self.db.engine().mono_ns();
            let (planned, ran) = self.plan_and_run::<S>(&cached, params, None).await?;
            let mut lines = explain::lines(&planned.plan);
            let total_ns = self.db.engine().mono_ns() - start;
            let commit_ns = ran.commit.as_ref().map_or(0, |commit| commit.total_ns);
            lines.extend(explain::analyze_lines(
                &ran.counts,
                (total_ns - commit_ns).max(0),
                ran.lock_wait_ns,
                ran.commit.as_ref(),
            ));
            done.commit = ran.commit;
            done.read_ts = ran.read_ts;
            lines
        } else {
            explain::lines(&self.plan(&cached).await?.0.plan)
        };
        let rows = lines.into_iter().map(|line| vec![Datum::Text(line)]).collect();
        send(columns(), rows, sink).await?;
        Ok(done)
    }
}

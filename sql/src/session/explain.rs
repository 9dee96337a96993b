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
        let planned = self.plan(&cached).await?;
        let mut lines = explain::lines(&planned.plan);
        let mut done = tag("EXPLAIN");
        if analyze {
            let start = self.db.engine().mono_ns();
            let ran = self.run_plan::<S>(statement, &planned, params, None).await?;
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
        }
        let rows = lines.into_iter().map(|line| vec![Datum::Text(line)]).collect();
        send(columns(), rows, sink).await?;
        Ok(done)
    }
}

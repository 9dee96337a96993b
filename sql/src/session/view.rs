//! CREATE VIEW, and the end of what other gateways may still use for a while.

use sqlparser::ast;

use super::Session;
use crate::SqlError;
use crate::catalog::CATALOG_LEASE_NS;
use crate::ddl::{self, Change};
use crate::engine::Engine;
use crate::sink::{Completion, Notice, Sink};

/// How often a view is planned anew because the schema has changed meanwhile.
const ATTEMPTS_MAX: u32 = 20;

impl<E: Engine> Session<E> {
    pub(super) async fn create_view<S: Sink>(
        &mut self,
        create: &ast::CreateView,
        sink: &mut S,
    ) -> Result<Completion, SqlError> {
        self.outside_block("CREATE VIEW")?;
        let described = ddl::view::describe(create)?;
        for _ in 0..ATTEMPTS_MAX {
            let catalog = self.db.load_strong().await?;
            let made = ddl::view::create(self.db.engine(), &catalog, self.db.queries(), &described).await?;
            let Some((change, replaced)) = made else { continue };
            if replaced {
                return Ok(self.gone("CREATE VIEW", change, &[], sink).await);
            }
            let completion = self.changed("CREATE VIEW", change, sink);
            // It has happened, whether or not the catalog can be read just now: who needs it tries again.
            let _ = self.db.load_strong().await;
            return Ok(completion);
        }
        Err(SqlError::new("40001", "could not serialize access: the schema keeps changing")
            .hint("Try the statement again."))
    }

    /// After something was dropped or replaced: waits until no gateway goes by a catalog that still has it.
    pub(super) async fn gone<S: Sink>(
        &mut self,
        what: &str,
        change: Change,
        views: &[String],
        sink: &mut S,
    ) -> Completion {
        match views {
            [] => {}
            [view] => sink.notice(Notice::info("00000", format!("drop cascades to view {view}"))),
            many => {
                let detail: Vec<String> = many.iter().map(|view| format!("drop cascades to view {view}")).collect();
                let message = format!("drop cascades to {} other objects: {}", many.len(), detail.join(", "));
                sink.notice(Notice::info("00000", message));
            }
        }
        let completion = self.changed(what, change, sink);
        let _ = self.db.load_strong().await;
        if completion.commit.is_some() {
            let answered = self.db.engine().now().latest;
            self.db.engine().sleep_until_after(answered.plus_ns(CATALOG_LEASE_NS)).await;
        }
        completion
    }
}

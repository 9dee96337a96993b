//! SQL's own PREPARE, EXECUTE, DEALLOCATE, and DISCARD. The names are those of the protocol's
//! prepared statements, too.

use std::sync::Arc;

use sqlparser::ast;

use super::Session;
use super::block::Block;
use super::database::Cached;
use super::run::tag;
use crate::SqlError;
use crate::catalog::Column;
use crate::engine::{Engine, Random};
use crate::expr::{Binder, EvalContext, Params, Scope, eval};
use crate::parse::Statement;
use crate::plan;
use crate::settings::Settings;
use crate::sink::{Completion, Sink};
use crate::types::{DataType, Datum};

fn unknown(name: &str) -> SqlError {
    SqlError::new("26000", format!("prepared statement \"{name}\" does not exist"))
}

impl<E: Engine> Session<E> {
    /// PREPARE.
    pub(super) async fn prepare_sql(
        &mut self,
        name: &str,
        types: &[DataType],
        text: &str,
        statement: &Statement,
    ) -> Result<Completion, SqlError> {
        self.check_prepared(name, name.len() + text.len())?;
        let cached = Cached::inner(statement);
        let declared = Params { types: types.iter().copied().map(Some).collect() };
        let planned = Some(self.plan_with(&cached, declared).await?);
        self.keep_prepared(name, name.len() + text.len(), Cached { planned, ..cached });
        if !types.is_empty() {
            self.declared.insert(name.into(), types.to_vec());
        }
        Ok(tag("PREPARE"))
    }

    /// The plan of a statement that was prepared with some types of parameters.
    async fn plan_with(&self, cached: &Cached, declared: Params) -> Result<Arc<plan::Planned>, SqlError> {
        if declared.types.is_empty() {
            return self.plan(cached).await.map(|(planned, _)| planned);
        }
        let at = self.read_time(&cached.statement)?;
        let catalog = match at {
            Some(at) => self.db.catalog_at(at).await?,
            None => self.db.catalog().await?,
        };
        match &cached.planned {
            Some(planned) if planned.version == catalog.version => Ok(Arc::clone(planned)),
            _ => plan::plan_with(&cached.statement, &catalog, self.db.queries(), declared).map(Arc::new),
        }
    }

    /// EXECUTE.
    pub(super) async fn execute_sql<S: Sink>(
        &mut self,
        name: &str,
        values: &[ast::Expr],
        sink: &mut S,
    ) -> Result<(), SqlError> {
        let mut cached = self.prepared.get(name).map(|(_, cached)| cached.clone()).ok_or_else(|| unknown(name))?;
        if !cached.statement.is_query() {
            return Err(SqlError::unsupported("EXECUTE of a statement that reads or writes no table"));
        }
        let declared = Params { types: self.declared.get(name).into_iter().flatten().copied().map(Some).collect() };
        let planned = self.plan_with(&cached, declared).await?;
        if values.len() != planned.params.len() {
            let (wanted, given) = (planned.params.len(), values.len());
            return Err(SqlError::new(
                "42601",
                format!("wrong number of parameters for prepared statement \"{name}\""),
            )
            .detail(format!("Expected {wanted} parameters but got {given}.")));
        }
        let now = match &self.block {
            Block::Open(open) => open.now,
            Block::ReadOnly(block) => block.now,
            _ => self.db.engine().now().latest,
        };
        let params = values
            .iter()
            .zip(&planned.params)
            .enumerate()
            .map(|(at, (value, ty))| argument(at, value, *ty, now, self.db.engine()));
        let params = params.collect::<Result<Vec<_>, _>>()?;
        cached.planned = Some(planned);
        let planned = self.query(&cached, &params, sink).await?;
        if let Some(entry) = self.prepared.get_mut(name) {
            entry.1.planned = Some(planned);
        }
        Ok(())
    }

    /// DEALLOCATE.
    pub(super) fn deallocate(&mut self, name: Option<&str>) -> Result<Completion, SqlError> {
        match name {
            Some(name) if !self.prepared.contains_key(name) => Err(unknown(name)),
            Some(name) => {
                self.close_prepared(name);
                Ok(tag("DEALLOCATE"))
            }
            None => {
                self.close_all_prepared();
                Ok(tag("DEALLOCATE ALL"))
            }
        }
    }

    /// DISCARD.
    pub(super) fn discard(&mut self, what: &str) -> Result<Completion, SqlError> {
        if what == "ALL" {
            if !matches!(self.block, Block::Idle) {
                return Err(SqlError::new("25001", "DISCARD ALL cannot run inside a transaction block"));
            }
            self.settings = Settings::default();
            self.close_all_prepared();
        }
        if what == "ALL" || what == "SEQUENCES" {
            self.drawn.forget();
        }
        Ok(tag(&format!("DISCARD {what}")))
    }

    fn close_all_prepared(&mut self) {
        self.prepared.clear();
        self.declared.clear();
        self.prepared_bytes = 0;
    }
}

/// The value of an argument, as the parameter's type.
fn argument(
    at: usize,
    value: &ast::Expr,
    ty: DataType,
    now: truetime::Timestamp,
    random: &dyn Random,
) -> Result<Datum, SqlError> {
    let scope = Scope::default();
    let mut params = Params::default();
    let bound = Binder { scope: &scope, params: &mut params, aggregates: None, clause: "EXECUTE" }.bind(value)?;
    let found = bound.ty;
    // As if to a column of that type.
    let column = Column::new(0, "", ty);
    let expr = bound.assign(&column, &mut params).map_err(|err| match (err.sqlstate, found) {
        ("42804", Some(found)) => SqlError::new(
            "42804",
            format!(
                "parameter ${} of type {} cannot be coerced to the expected type {}",
                at + 1,
                found.name(),
                ty.name()
            ),
        )
        .hint("You will need to rewrite or cast the expression."),
        _ => err,
    })?;
    if !params.types.is_empty() {
        return Err(SqlError::new("42P02", "there is no parameter in the arguments of EXECUTE"));
    }
    eval(&expr, &[], &EvalContext { params: &[], now, random })
}

//! The second path of SELECT in a build without DataFusion: there is none, and whoever asks for it is
//! told by the short path what is not supported.

use std::path::PathBuf;
use std::sync::Arc;

use sqlparser::ast;

use crate::SqlError;
use crate::catalog::{Catalog, Table};
use crate::engine::Engine;
use crate::expr::{EvalContext, Params};
use crate::short::{Counts, Failure, Output, Reader};
use crate::sink::{ColumnInfo, Sink};
use crate::system::{SystemRows, SystemTable};

/// A query that DataFusion would run: there is none.
#[derive(Clone, Debug)]
pub enum Query {}

/// What the queries of a node share: nothing.
#[derive(Clone, Debug, Default)]
pub struct Queries(());

/// How much the queries of a node may take.
#[derive(Clone, Debug, Default)]
pub struct QueryOptions {
    /// The memory of all of them together, in bytes.
    pub memory_bytes: usize,
    /// A folder of their own for what does not fit.
    pub spill: Option<PathBuf>,
}

/// Without DataFusion no panic is expected.
pub fn tolerates() -> bool {
    false
}

impl Queries {
    /// Never fails.
    pub fn new(_: &QueryOptions) -> Result<Queries, SqlError> {
        Ok(Queries::default())
    }
}

impl Query {
    /// 0A000.
    pub(crate) fn plan(
        _: &ast::Query,
        _: &Catalog,
        _: &Queries,
        _: Option<&Table>,
        _: &mut Params,
    ) -> Result<Query, SqlError> {
        Err(SqlError::unsupported("such a query in a build without DataFusion"))
    }

    pub(crate) fn columns(&self) -> &[ColumnInfo] {
        match *self {}
    }

    pub(crate) fn tables(&self) -> &[Arc<Table>] {
        match *self {}
    }

    pub(crate) fn output(&self) -> Vec<(Option<String>, ColumnInfo)> {
        match *self {}
    }

    pub(crate) fn systems(&self) -> &[&'static SystemTable] {
        match *self {}
    }

    pub(crate) fn give(&mut self, _: SystemRows) {
        match *self {}
    }

    pub(crate) fn takes_locks(&self) -> bool {
        match *self {}
    }
}

pub(crate) async fn run<E: Engine, S: Sink>(
    query: &Query,
    _: &EvalContext<'_>,
    _: &mut Reader<'_, E>,
    _: &mut Output<'_, S>,
) -> Result<Counts, Failure> {
    match *query {}
}

pub(crate) async fn explain(query: &Query, _: &EvalContext<'_>) -> Result<Vec<String>, SqlError> {
    match *query {}
}

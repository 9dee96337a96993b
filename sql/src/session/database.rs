//! What the sessions of one gateway share: the engine, the catalog, and plans by their text.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use truetime::Timestamp;
use txn::Span;

use super::Session;
use crate::SqlError;
use crate::catalog::{self, Catalog};
use crate::engine::{Engine, ReadBound};
use crate::jobs::{self, JobOptions};
use crate::parse::{Parsed, Statement};
use crate::plan::Planned;
use crate::select::Queries;
use crate::sequence::Numbers;
use crate::system::Statistics;

/// The most texts whose plans are kept.
const PLANS_MAX: usize = 1024;
/// The longest text whose plan is kept, in bytes.
const PLAN_TEXT_BYTES_MAX: usize = 8 << 10;

/// One gateway's database. Cheap to clone.
#[derive(Debug)]
pub struct Database<E: Engine> {
    shared: Arc<Shared<E>>,
}

impl<E: Engine> Clone for Database<E> {
    fn clone(&self) -> Self {
        Database { shared: Arc::clone(&self.shared) }
    }
}

#[derive(Debug)]
struct Shared<E> {
    engine: E,
    queries: Queries,
    catalog: Mutex<Option<Arc<Catalog>>>,
    jobs: JobOptions,
    plans: Mutex<PlanCache>,
    statistics: Statistics,
    numbers: Numbers,
}

/// A parsed text of one statement, and its plan once there is one.
#[derive(Clone, Debug)]
pub(super) struct Cached {
    pub(super) statement: Arc<Statement>,
    pub(super) planned: Option<Arc<Planned>>,
    /// Its text without its values; empty for a part of another statement.
    pub(super) fingerprint: Arc<str>,
}

impl Cached {
    /// One that is not planned yet.
    pub(super) fn new(parsed: Parsed) -> Cached {
        Cached { statement: Arc::new(parsed.statement), planned: None, fingerprint: parsed.fingerprint }
    }

    /// A statement within another one.
    pub(super) fn inner(statement: &Statement) -> Cached {
        Cached { statement: Arc::new(statement.clone()), planned: None, fingerprint: Arc::from("") }
    }
}

#[derive(Debug, Default)]
struct PlanCache {
    entries: BTreeMap<String, (u64, Cached)>,
    clock: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is half-done while these are held, so a panic elsewhere did no harm.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<E: Engine> Database<E> {
    /// Over an engine. Reads nothing yet.
    pub fn new(engine: E) -> Database<E> {
        Database::with(engine, JobOptions::default(), Queries::default())
    }

    /// The same, with settings of its own for schema changes.
    pub fn with_jobs(engine: E, jobs: JobOptions) -> Database<E> {
        Database::with(engine, jobs, Queries::default())
    }

    /// The same, with the memory that the node gives its queries.
    pub fn with_queries(engine: E, queries: Queries) -> Database<E> {
        Database::with(engine, JobOptions::default(), queries)
    }

    fn with(engine: E, jobs: JobOptions, queries: Queries) -> Database<E> {
        let (catalog, plans) = (Mutex::new(None), Mutex::new(PlanCache::default()));
        Database {
            shared: Arc::new(Shared {
                engine,
                queries,
                catalog,
                jobs,
                plans,
                statistics: Statistics::default(),
                numbers: Numbers::default(),
            }),
        }
    }

    /// How schema changes are done.
    pub(crate) fn job_options(&self) -> JobOptions {
        self.shared.jobs
    }

    /// Goes on with schema changes whose gateways are gone, to their end; says how many. To be called about every
    /// second.
    pub async fn tend_jobs(&self) -> Result<u64, SqlError> {
        jobs::tend(self).await
    }

    /// A new session, outside any transaction.
    pub fn session(&self) -> Session<E> {
        Session::new(self.clone())
    }

    /// The engine.
    pub fn engine(&self) -> &E {
        &self.shared.engine
    }

    /// The numbers of sequences that it holds.
    pub(crate) fn numbers(&self) -> &Numbers {
        &self.shared.numbers
    }

    /// What it remembers of its work.
    pub fn statistics(&self) -> &Statistics {
        &self.shared.statistics
    }

    pub(super) fn queries(&self) -> &Queries {
        &self.shared.queries
    }

    /// Reads the catalog anew. To be called about every half second, so that statements find it
    /// fresh; they read it themselves if not.
    pub async fn refresh_catalog(&self) -> Result<(), SqlError> {
        self.load_strong().await.map(|_| ())
    }

    /// The catalog, from the cache while its lease runs.
    pub async fn catalog(&self) -> Result<Arc<Catalog>, SqlError> {
        match self.known_catalog() {
            Some(catalog) => Ok(catalog),
            None => self.load_strong().await,
        }
    }

    /// The same, if it need not be read.
    pub(crate) fn known_catalog(&self) -> Option<Arc<Catalog>> {
        let cached = lock(&self.shared.catalog).clone();
        // A clock that is not trusted may have been set back, and then the lease would seem to run for ever.
        cached.filter(|catalog| self.engine().present().is_ok() && catalog.is_fresh(&self.engine().now()))
    }

    /// The catalog with every change that was answered before the call.
    pub(crate) async fn load_strong(&self) -> Result<Arc<Catalog>, SqlError> {
        let catalog = self.load(ReadBound::Strong).await?;
        let mut cached = lock(&self.shared.catalog);
        // Two loads may end in either order: the later catalog stays.
        match &*cached {
            Some(known) if (known.version, known.known_at) > (catalog.version, catalog.known_at) => {
                Ok(Arc::clone(known))
            }
            _ => {
                *cached = Some(Arc::clone(&catalog));
                Ok(catalog)
            }
        }
    }

    /// The catalog at a past timestamp.
    pub(super) async fn catalog_at(&self, at: Timestamp) -> Result<Arc<Catalog>, SqlError> {
        let current = self.catalog().await?;
        // What is cached is the truth from its last change until it was read; before and after that
        // only the catalogue of then will do.
        if current.changed_at <= at && at <= current.known_at {
            Ok(current)
        } else {
            self.load(ReadBound::At(at)).await
        }
    }

    /// The catalog of a timestamp, read for this call.
    pub(super) async fn load(&self, bound: ReadBound) -> Result<Arc<Catalog>, SqlError> {
        let known_at = self.engine().now().earliest;
        let mut op = catalog::read_op();
        let mut bound = bound;
        let mut rows = Vec::new();
        loop {
            let (at, results) = self.engine().snapshot(bound, vec![op.clone()]).await?;
            bound = ReadBound::At(at);
            let result = results.into_iter().next().unwrap_or_default();
            let got = result.rows.len();
            rows.extend(result.rows);
            match result.resume {
                Some(span) if got > 0 || span != op.span => op.span = span,
                Some(Span { .. }) => return Err(SqlError::new("XX000", "reading the catalog made no progress")),
                None => {
                    let mut catalog = Catalog::from_rows(known_at, &rows)?;
                    catalog.sabotage = self.engine().sabotage();
                    return Ok(Arc::new(catalog));
                }
            }
        }
    }

    pub(super) fn cached(&self, text: &str) -> Option<Cached> {
        let mut plans = lock(&self.shared.plans);
        plans.clock += 1;
        let clock = plans.clock;
        let (used, cached) = plans.entries.get_mut(text)?;
        *used = clock;
        Some(cached.clone())
    }

    pub(super) fn cache(&self, text: &str, cached: Cached) {
        if text.len() > PLAN_TEXT_BYTES_MAX {
            return;
        }
        let mut plans = lock(&self.shared.plans);
        plans.clock += 1;
        let clock = plans.clock;
        plans.entries.insert(text.to_string(), (clock, cached));
        if plans.entries.len() > PLANS_MAX {
            // A quarter at a time, so that finding the oldest costs little for each.
            let mut ages: Vec<u64> = plans.entries.values().map(|(used, _)| *used).collect();
            ages.sort_unstable();
            let keep = ages[ages.len() / 4];
            plans.entries.retain(|_, (used, _)| *used >= keep);
        }
    }
}

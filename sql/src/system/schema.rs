//! `information_schema`: the tables, columns and keys of the catalog, as the SQL standard and
//! PostgreSQL present them. Views that would have no rows, because Meridian has nothing of the kind,
//! are there and empty: tools ask for them all the same.

use super::constraints::{check_constraints, constraint_column_usage, key_column_usage, table_constraints};
use super::references::{referential_constraints, sequences};
use super::{SCHEMAS, Source, SystemTable, all};
use crate::catalog::{Catalog, Column, Generated, View};
use crate::types::DataType::{self, Int, Text};
use crate::types::{Datum, TypeModifier};

/// The only database.
pub(super) const DATABASE: &str = "meridian";
const PUBLIC: &str = "public";

const fn table(
    name: &'static str,
    columns: &'static [(&'static str, DataType)],
    rows: fn(&Catalog) -> Vec<Vec<Datum>>,
) -> SystemTable {
    SystemTable { schema: "information_schema", name, columns, source: Source::Catalog(rows) }
}

fn nothing(_: &Catalog) -> Vec<Vec<Datum>> {
    Vec::new()
}

pub(super) static TABLES: &[SystemTable] = &[
    table(
        "schemata",
        &[
            ("catalog_name", Text),
            ("schema_name", Text),
            ("schema_owner", Text),
            ("default_character_set_catalog", Text),
            ("default_character_set_schema", Text),
            ("default_character_set_name", Text),
            ("sql_path", Text),
        ],
        schemata,
    ),
    table(
        "tables",
        &[
            ("table_catalog", Text),
            ("table_schema", Text),
            ("table_name", Text),
            ("table_type", Text),
            ("self_referencing_column_name", Text),
            ("reference_generation", Text),
            ("user_defined_type_catalog", Text),
            ("user_defined_type_schema", Text),
            ("user_defined_type_name", Text),
            ("is_insertable_into", Text),
            ("is_typed", Text),
            ("commit_action", Text),
        ],
        tables,
    ),
    table(
        "columns",
        &[
            ("table_catalog", Text),
            ("table_schema", Text),
            ("table_name", Text),
            ("column_name", Text),
            ("ordinal_position", Int),
            ("column_default", Text),
            ("is_nullable", Text),
            ("data_type", Text),
            ("character_maximum_length", Int),
            ("character_octet_length", Int),
            ("numeric_precision", Int),
            ("numeric_precision_radix", Int),
            ("numeric_scale", Int),
            ("datetime_precision", Int),
            ("interval_type", Text),
            ("collation_name", Text),
            ("udt_catalog", Text),
            ("udt_schema", Text),
            ("udt_name", Text),
            ("is_identity", Text),
            ("identity_generation", Text),
            ("is_generated", Text),
            ("generation_expression", Text),
            ("is_updatable", Text),
        ],
        columns,
    ),
    table(
        "table_constraints",
        &[
            ("constraint_catalog", Text),
            ("constraint_schema", Text),
            ("constraint_name", Text),
            ("table_catalog", Text),
            ("table_schema", Text),
            ("table_name", Text),
            ("constraint_type", Text),
            ("is_deferrable", Text),
            ("initially_deferred", Text),
            ("enforced", Text),
            ("nulls_distinct", Text),
        ],
        table_constraints,
    ),
    table(
        "key_column_usage",
        &[
            ("constraint_catalog", Text),
            ("constraint_schema", Text),
            ("constraint_name", Text),
            ("table_catalog", Text),
            ("table_schema", Text),
            ("table_name", Text),
            ("column_name", Text),
            ("ordinal_position", Int),
            ("position_in_unique_constraint", Int),
        ],
        key_column_usage,
    ),
    table(
        "constraint_column_usage",
        &[
            ("table_catalog", Text),
            ("table_schema", Text),
            ("table_name", Text),
            ("column_name", Text),
            ("constraint_catalog", Text),
            ("constraint_schema", Text),
            ("constraint_name", Text),
        ],
        constraint_column_usage,
    ),
    table(
        "referential_constraints",
        &[
            ("constraint_catalog", Text),
            ("constraint_schema", Text),
            ("constraint_name", Text),
            ("unique_constraint_catalog", Text),
            ("unique_constraint_schema", Text),
            ("unique_constraint_name", Text),
            ("match_option", Text),
            ("update_rule", Text),
            ("delete_rule", Text),
        ],
        referential_constraints,
    ),
    table(
        "check_constraints",
        &[("constraint_catalog", Text), ("constraint_schema", Text), ("constraint_name", Text), ("check_clause", Text)],
        check_constraints,
    ),
    table(
        "views",
        &[
            ("table_catalog", Text),
            ("table_schema", Text),
            ("table_name", Text),
            ("view_definition", Text),
            ("check_option", Text),
            ("is_updatable", Text),
            ("is_insertable_into", Text),
        ],
        views,
    ),
    table(
        "sequences",
        &[
            ("sequence_catalog", Text),
            ("sequence_schema", Text),
            ("sequence_name", Text),
            ("data_type", Text),
            ("numeric_precision", Int),
            ("numeric_precision_radix", Int),
            ("numeric_scale", Int),
            ("start_value", Text),
            ("minimum_value", Text),
            ("maximum_value", Text),
            ("increment", Text),
            ("cycle_option", Text),
        ],
        sequences,
    ),
    table(
        "routines",
        &[
            ("specific_catalog", Text),
            ("specific_schema", Text),
            ("specific_name", Text),
            ("routine_catalog", Text),
            ("routine_schema", Text),
            ("routine_name", Text),
            ("routine_type", Text),
            ("data_type", Text),
            ("routine_body", Text),
            ("routine_definition", Text),
            ("external_language", Text),
        ],
        nothing,
    ),
    table(
        "parameters",
        &[
            ("specific_catalog", Text),
            ("specific_schema", Text),
            ("specific_name", Text),
            ("ordinal_position", Int),
            ("parameter_mode", Text),
            ("parameter_name", Text),
            ("data_type", Text),
        ],
        nothing,
    ),
    table(
        "triggers",
        &[
            ("trigger_catalog", Text),
            ("trigger_schema", Text),
            ("trigger_name", Text),
            ("event_manipulation", Text),
            ("event_object_catalog", Text),
            ("event_object_schema", Text),
            ("event_object_table", Text),
            ("action_statement", Text),
            ("action_timing", Text),
        ],
        nothing,
    ),
    table(
        "collations",
        &[("collation_catalog", Text), ("collation_schema", Text), ("collation_name", Text), ("pad_attribute", Text)],
        collations,
    ),
    table("information_schema_catalog_name", &[("catalog_name", Text)], |_| vec![vec![text(DATABASE)]]),
];

pub(super) fn text(value: &str) -> Datum {
    Datum::Text(value.into())
}

pub(super) fn yes(on: bool) -> Datum {
    text(if on { "YES" } else { "NO" })
}

/// Catalog and schema of what users make, and a name.
pub(super) fn public(name: &str) -> [Datum; 3] {
    [text(DATABASE), text(PUBLIC), text(name)]
}

fn nulls(count: usize) -> impl Iterator<Item = Datum> {
    std::iter::repeat_n(Datum::Null, count)
}

fn schemata(_: &Catalog) -> Vec<Vec<Datum>> {
    let row = |name: &str| [text(DATABASE), text(name), text("meridian")].into_iter().chain(nulls(4)).collect();
    [PUBLIC].into_iter().chain(SCHEMAS).map(row).collect()
}

fn tables(catalog: &Catalog) -> Vec<Vec<Datum>> {
    let row = |schema: &str, name: &str, own: bool| {
        let kind = if own { "BASE TABLE" } else { "VIEW" };
        let mut row = vec![text(DATABASE), text(schema), text(name), text(kind)];
        row.extend(nulls(5));
        row.extend([yes(own), yes(false), Datum::Null]);
        row
    };
    let own = catalog.tables.values().map(|table| row(PUBLIC, &table.name, true));
    let views = catalog.views.values().map(|view| row(PUBLIC, &view.name, false));
    own.chain(views).chain(all().map(|table| row(table.schema, table.name, false))).collect()
}

fn views(catalog: &Catalog) -> Vec<Vec<Datum>> {
    let row = |view: &View| {
        let mut row = Vec::from(public(&view.name));
        row.extend([text(&view.query), text("NONE"), yes(false), yes(false)]);
        row
    };
    catalog.views.values().map(|view| row(view)).collect()
}

/// A column's type in the standard's terms: name, the same inside PostgreSQL, and its sizes.
struct Described {
    name: &'static str,
    udt: &'static str,
    precision: Option<i64>,
    radix: Option<i64>,
    scale: Option<i64>,
    fraction: Option<i64>,
    octets: Option<i64>,
}

fn describe(ty: DataType) -> Described {
    let name = ty.name();
    let (udt, precision, radix, scale, fraction, octets) = match name {
        "smallint" => ("int2", Some(16), Some(2), Some(0), None, None),
        "integer" => ("int4", Some(32), Some(2), Some(0), None, None),
        "bigint" => ("int8", Some(64), Some(2), Some(0), None, None),
        "real" => ("float4", Some(24), Some(2), None, None, None),
        "double precision" => ("float8", Some(53), Some(2), None, None, None),
        "boolean" => ("bool", None, None, None, None, None),
        "text" => ("text", None, None, None, None, Some(1 << 30)),
        "timestamp with time zone" => ("timestamptz", None, None, None, Some(6), None),
        other => (other, None, None, None, None, None),
    };
    Described { name, udt, precision, radix, scale, fraction, octets }
}

fn column(schema: &str, table: &str, at: usize, name: &str, ty: DataType, own: Option<&Column>) -> Vec<Datum> {
    let int = |n: Option<i64>| n.map_or(Datum::Null, Datum::Int);
    let Described { name: data_type, udt, precision, radix, scale, fraction, octets } = describe(ty);
    let (generated, nullable) = (own.and_then(|own| own.generated.as_ref()), own.is_none_or(|own| !own.not_null));
    let (identity, expression) = match generated {
        Some(Generated::Identity { always, .. }) => (Some(if *always { "ALWAYS" } else { "BY DEFAULT" }), None),
        Some(Generated::Stored(text)) => (None, Some(text.as_str())),
        _ => (None, None),
    };
    // That of an identity column is a part of it.
    let default = own.and_then(|own| own.default.as_deref()).filter(|_| identity.is_none());
    let (mut name_of_type, mut udt, mut length) = (data_type, udt, None);
    let (mut precision, mut radix, mut scale, mut fraction) = (precision, radix, scale, fraction);
    match own.and_then(|column| column.modifier) {
        Some(TypeModifier::Varchar(most)) => {
            (name_of_type, udt, length) = ("character varying", "varchar", most.map(i64::from));
        }
        Some(TypeModifier::Char(characters)) => (udt, length) = ("bpchar", Some(i64::from(characters))),
        Some(TypeModifier::Numeric { precision: digits, scale: after }) => {
            (precision, radix, scale) = (Some(i64::from(digits)), Some(10), Some(i64::from(after)));
        }
        Some(TypeModifier::Precision(digits)) => fraction = Some(i64::from(digits)),
        None => {}
    }
    vec![
        text(DATABASE),
        text(schema),
        text(table),
        text(name),
        Datum::Int(at as i64 + 1),
        default.map_or(Datum::Null, text),
        yes(nullable),
        text(name_of_type),
        int(length),
        int(octets),
        int(precision),
        int(radix),
        int(scale),
        int(fraction),
        Datum::Null,
        Datum::Null,
        text(DATABASE),
        text("pg_catalog"),
        text(udt),
        yes(identity.is_some()),
        identity.map_or(Datum::Null, text),
        text(if expression.is_some() { "ALWAYS" } else { "NEVER" }),
        expression.map_or(Datum::Null, text),
        yes(own.is_some()),
    ]
}

fn columns(catalog: &Catalog) -> Vec<Vec<Datum>> {
    let mut rows = Vec::new();
    for table in catalog.tables.values() {
        for (at, own) in table.visible_columns() {
            rows.push(column(PUBLIC, &table.name, at, &own.name, own.ty, Some(own)));
        }
    }
    for view in catalog.views.values() {
        let own = view.columns.iter().enumerate();
        rows.extend(own.map(|(at, c)| column(PUBLIC, &view.name, at, &c.name, c.ty, None)));
    }
    for table in all() {
        let own = table.columns.iter().enumerate();
        rows.extend(own.map(|(at, (name, ty))| column(table.schema, table.name, at, name, *ty, None)));
    }
    rows
}

fn collations(_: &Catalog) -> Vec<Vec<Datum>> {
    let row = |name: &str| vec![text(DATABASE), text("pg_catalog"), text(name), text("NO PAD")];
    ["default", "C", "POSIX", "ucs_basic"].into_iter().map(row).collect()
}

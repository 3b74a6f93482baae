//! The sample's models, read from three compiled-in files.
//!
//! `sam-models.json` names fields and their Odoo types only. The two text files say the rest, a
//! model per line that starts in column one, its fields on indented lines, `#` for comments:
//!
//! ```text
//! default user_id res.users                            relation of every `user_id` not told otherwise
//! ai.message regular ai_brain 7000 AI Message          model, kind, module, rows at scale 1, description
//!   conversation_id:Many2one!>ai.conversation/cascade  ! required, > relation, / on delete
//!   name:Char~translate  cap:Float~company~digits      ~ translate, company, digits, column (bytea), nostore
//!   tag_ids:Many2many>ai.tag@rel_table,a_id,b_id       @ relation table and its columns
//!   line_ids:One2many>ai.line=message_id               = inverse field
//! sam.member.mode … SAM Member Mode table=other_table  a model whose table does not follow its name
//! ```
//!
//! Kinds: `regular` and `transient` get a table here; `sql` gets it from `sql/special.sql`;
//! `view`, `abstract` and `query` have none of their own; `absent` removes a model of the JSON.

use std::collections::BTreeMap;

use crate::error::SampleError;

const JSON: &str = include_str!("../../data/sam-models.json");
const SAM: &str = include_str!("../../data/models-sam.txt");
const CORE: &str = include_str!("../../data/models-core.txt");

/// What stands behind a model's name in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Regular,
    Transient,
    Abstract,
    View,
    Query,
    Sql,
    Absent,
}

/// What a foreign key does when its target goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnDelete {
    Cascade,
    SetNull,
    Restrict,
}

impl OnDelete {
    pub(super) fn sql(self) -> &'static str {
        match self {
            Self::Cascade => "cascade",
            Self::SetNull => "set null",
            Self::Restrict => "restrict",
        }
    }
}

/// A many2many relation table: its name, the column of this side, the column of the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Relation {
    pub(super) table: String,
    pub(super) column1: String,
    pub(super) column2: String,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Field {
    pub(super) name: String,
    /// Odoo's `ttype`.
    pub(super) ttype: String,
    pub(super) required: bool,
    pub(super) relation: Option<String>,
    pub(super) on_delete: Option<OnDelete>,
    pub(super) inverse: Option<String>,
    pub(super) rel: Option<Relation>,
    pub(super) translate: bool,
    pub(super) company: bool,
    pub(super) digits: bool,
    /// A binary kept in the table instead of in an attachment.
    pub(super) in_column: bool,
    pub(super) not_stored: bool,
}

impl Field {
    /// The column's type, or `None` when the field has no column.
    pub(super) fn column_type(&self) -> Option<&'static str> {
        if self.not_stored {
            return None;
        }
        if self.translate || self.company {
            return Some("jsonb");
        }
        Some(match self.ttype.as_str() {
            "char" | "selection" | "reference" => "varchar",
            "text" | "html" => "text",
            "integer" | "many2one" | "many2one_reference" => "int4",
            "float" if self.digits => "numeric",
            "float" => "float8",
            "monetary" => "numeric",
            "boolean" => "bool",
            "date" => "date",
            "datetime" => "timestamp",
            "json" => "jsonb",
            "binary" if self.in_column => "bytea",
            _ => return None,
        })
    }

    /// A many2one with a foreign key of its own.
    pub(super) fn is_reference(&self) -> bool {
        self.ttype == "many2one" && !self.company && !self.not_stored
    }

    pub(super) fn is_attachment(&self) -> bool {
        self.ttype == "binary" && !self.in_column
    }

    fn action(&self) -> OnDelete {
        self.on_delete.unwrap_or(if self.required {
            OnDelete::Restrict
        } else {
            OnDelete::SetNull
        })
    }
}

#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) name: String,
    pub(super) table: String,
    pub(super) kind: Kind,
    pub(super) module: String,
    pub(super) description: String,
    /// Rows at scale 1.
    pub(super) rows: u32,
    /// The model whose table this one's INHERITS.
    pub(super) inherits: Option<String>,
    pub(super) fields: Vec<Field>,
}

impl Model {
    pub(super) fn has_table(&self) -> bool {
        matches!(self.kind, Kind::Regular | Kind::Transient)
    }

    pub(super) fn is_chatter(&self) -> bool {
        self.fields.iter().any(|f| f.name == "message_follower_ids")
    }

    /// Whether the model belongs to a module of the SAM family.
    pub(super) fn is_sam(&self) -> bool {
        self.module.starts_with("ai_") || self.module.starts_with("sam_")
    }

    /// Rows at a scale; small tables keep their size, large ones keep some rows.
    pub(super) fn scaled_rows(&self, scale: f64) -> u32 {
        if self.rows < 40 {
            return self.rows;
        }
        // A product of two non-negative finite numbers, far below 2^32 for any sane scale.
        ((f64::from(self.rows) * scale).round() as u32).max(20)
    }
}

/// All models, by name.
pub(super) fn load() -> Result<BTreeMap<String, Model>, SampleError> {
    let mut models = from_json()?;
    let mut defaults = BTreeMap::new();
    for text in [CORE, SAM] {
        overlay(text, &mut models, &mut defaults)?;
    }
    models.retain(|_, m| m.kind != Kind::Absent);
    complete(&mut models, &defaults)?;
    Ok(models)
}

fn wrong(what: impl Into<String>) -> SampleError {
    SampleError::Data(what.into())
}

#[derive(serde::Deserialize)]
struct JsonModel {
    kind: String,
    fields: BTreeMap<String, JsonField>,
}

#[derive(serde::Deserialize)]
struct JsonField {
    r#type: String,
    required: bool,
}

fn from_json() -> Result<BTreeMap<String, Model>, SampleError> {
    let parsed: BTreeMap<String, JsonModel> =
        serde_json::from_str(JSON).map_err(|e| wrong(format!("sam-models.json: {e}")))?;
    let mut models = BTreeMap::new();
    for (name, json) in parsed {
        let mut model = empty(&name, kind(&json.kind)?);
        for (name, field) in json.fields {
            let (ttype, in_column) = odoo_type(&field.r#type)?;
            let required = field.required;
            model.fields.push(Field {
                name,
                ttype,
                in_column,
                required,
                ..Field::default()
            });
        }
        models.insert(name, model);
    }
    Ok(models)
}

fn empty(name: &str, kind: Kind) -> Model {
    Model {
        name: name.to_owned(),
        table: name.replace('.', "_"),
        kind,
        module: String::new(),
        description: String::new(),
        rows: 0,
        inherits: None,
        fields: Vec::new(),
    }
}

fn kind(word: &str) -> Result<Kind, SampleError> {
    Ok(match word {
        "regular" => Kind::Regular,
        "transient" => Kind::Transient,
        "abstract" => Kind::Abstract,
        "view" => Kind::View,
        "query" => Kind::Query,
        "sql" => Kind::Sql,
        "absent" => Kind::Absent,
        other => return Err(wrong(format!("unknown kind {other}"))),
    })
}

/// Odoo's `ttype` of a field class; `Image` is a binary too.
fn odoo_type(class: &str) -> Result<(String, bool), SampleError> {
    let ttype = match class {
        "Image" | "Binary" => "binary",
        "Many2oneReference" => "many2one_reference",
        "Char" | "Text" | "Html" | "Integer" | "Float" | "Monetary" | "Boolean" | "Selection"
        | "Many2one" | "One2many" | "Many2many" | "Json" | "Datetime" | "Date" | "Reference" => {
            return Ok((class.to_lowercase(), false));
        }
        other => return Err(wrong(format!("unknown field type {other}"))),
    };
    Ok((ttype.to_owned(), false))
}

fn overlay(
    text: &str,
    models: &mut BTreeMap<String, Model>,
    defaults: &mut BTreeMap<String, String>,
) -> Result<(), SampleError> {
    let mut current = String::new();
    for line in text
        .lines()
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
    {
        if line.starts_with(' ') {
            let model = models.get_mut(&current).ok_or_else(|| wrong(line))?;
            for token in line.split_whitespace() {
                let field = parse_field(token)?;
                match model.fields.iter_mut().find(|f| f.name == field.name) {
                    Some(existing) => *existing = field,
                    None => model.fields.push(field),
                }
            }
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["default", field, relation] => {
                defaults.insert((*field).to_owned(), (*relation).to_owned());
            }
            [name, what, module, rows, description @ ..] => {
                current = (*name).to_owned();
                let kind = kind(what)?;
                let model = models
                    .entry(current.clone())
                    .or_insert_with(|| empty(name, kind));
                model.kind = kind;
                model.module = (*module).to_owned();
                model.rows = rows.parse().map_err(|_| wrong(line))?;
                let mut title = Vec::new();
                for word in description {
                    match word.split_once('=') {
                        Some(("table", table)) => model.table = table.to_owned(),
                        Some(("inherits", parent)) => model.inherits = Some(parent.to_owned()),
                        _ => title.push(*word),
                    }
                }
                model.description = title.join(" ");
            }
            _ => return Err(wrong(line)),
        }
    }
    Ok(())
}

/// `name:Type!>relation/action@table,c1,c2=inverse~flag`, everything after the type optional.
fn parse_field(token: &str) -> Result<Field, SampleError> {
    let (name, mut rest) = token.split_once(':').ok_or_else(|| wrong(token))?;
    let end = rest
        .find(|c: char| !c.is_ascii_alphanumeric())
        .unwrap_or(rest.len());
    let (ttype, in_column) = odoo_type(&rest[..end])?;
    let mut field = Field {
        name: name.to_owned(),
        ttype,
        in_column,
        ..Field::default()
    };
    rest = &rest[end..];
    while let Some(sign) = rest.chars().next() {
        rest = &rest[sign.len_utf8()..];
        let end = rest
            .find(['!', '>', '/', '@', '=', '~'])
            .unwrap_or(rest.len());
        let value = rest[..end].to_owned();
        rest = &rest[end..];
        match (sign, value.as_str()) {
            ('!', "") => field.required = true,
            ('>', _) => field.relation = Some(value),
            ('=', _) => field.inverse = Some(value),
            ('/', "cascade") => field.on_delete = Some(OnDelete::Cascade),
            ('/', "restrict") => field.on_delete = Some(OnDelete::Restrict),
            ('~', "translate") => field.translate = true,
            ('~', "company") => field.company = true,
            ('~', "digits") => field.digits = true,
            ('~', "column") => field.in_column = true,
            ('~', "nostore") => field.not_stored = true,
            ('@', _) => match value.split(',').collect::<Vec<_>>().as_slice() {
                [table, column1, column2] => {
                    field.rel = Some(Relation {
                        table: (*table).to_owned(),
                        column1: (*column1).to_owned(),
                        column2: (*column2).to_owned(),
                    });
                }
                _ => return Err(wrong(token)),
            },
            _ => return Err(wrong(token)),
        }
    }
    Ok(field)
}

/// Fills in default relations, relation tables and actions, and checks that every target exists.
fn complete(
    models: &mut BTreeMap<String, Model>,
    defaults: &BTreeMap<String, String>,
) -> Result<(), SampleError> {
    let tables: BTreeMap<String, String> = models
        .values()
        .map(|m| (m.name.clone(), m.table.clone()))
        .collect();
    for model in models.values_mut() {
        if model.module.is_empty() {
            return Err(wrong(format!("{} has no module", model.name)));
        }
        for field in &mut model.fields {
            let place = format!("{}.{}", model.name, field.name);
            if field.relation.is_none() && field.ttype == "many2one" {
                let itself = (field.name == "parent_id").then(|| model.name.clone());
                field.relation = defaults.get(&field.name).cloned().or(itself);
            }
            let relational = matches!(field.ttype.as_str(), "many2one" | "many2many" | "one2many");
            let target = match (&field.relation, relational) {
                (Some(name), true) => tables.get(name).ok_or_else(|| wrong(place.clone()))?,
                (None, true) => return Err(wrong(format!("{place} has no relation"))),
                (_, false) => continue,
            };
            match field.ttype.as_str() {
                "many2one" => field.on_delete = Some(field.action()),
                "many2many" if field.rel.is_none() => {
                    let mut pair = [model.table.as_str(), target.as_str()];
                    pair.sort_unstable();
                    field.rel = Some(Relation {
                        table: format!("{}_{}_rel", pair[0], pair[1]),
                        column1: format!("{}_id", model.table),
                        column2: format!("{target}_id"),
                    });
                }
                "one2many" if field.inverse.is_none() => {
                    return Err(wrong(format!("{place} has no inverse")));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

//! A transaction on its way.

use super::state::{Row, State, links_of};
use radon_api::{Access, ApiError, Class, Kind, NULL, Result, Value, model};
use std::collections::{BTreeMap, BTreeSet};

/// What a transaction came to.
pub(super) struct Changes {
    pub rows: Vec<RowChange>,
    /// Objects that changed because others did, or for show.
    pub touched: BTreeSet<(&'static str, String)>,
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.touched.is_empty()
    }
}

pub(super) struct RowChange {
    pub class: &'static Class,
    pub reference: String,
    /// None: it is removed.
    pub row: Option<Row>,
    /// It is for the disk as well.
    pub lasting: bool,
}

/// A transaction: sees its own changes, and nobody else does before it ends.
pub struct Change<'a> {
    state: &'a State,
    rows: BTreeMap<(&'static str, String), Option<Row>>,
    touched: BTreeSet<(&'static str, String)>,
}

/// Fields that make no sense any more when the daemon starts anew.
const MOMENTARY: [&str; 2] = ["current_operations", "allowed_operations"];

/// A class of the model.
fn class(name: &str) -> Result<&'static Class> {
    model().class(name).ok_or_else(|| ApiError::internal(format!("there is no class {name}")))
}

/// A new random number.
pub(crate) fn random_uuid() -> Result<String> {
    let uuid =
        radon_domain::uuid::Uuid::random().map_err(|e| ApiError::internal(format!("/dev/urandom: {e}")))?;
    Ok(uuid.to_string())
}

impl<'a> Change<'a> {
    pub(super) fn new(state: &'a State) -> Self {
        Self { state, rows: BTreeMap::new(), touched: BTreeSet::new() }
    }

    pub(super) fn is_kept(field: &str) -> bool {
        !MOMENTARY.contains(&field)
    }

    /// Everything as it was when the transaction began.
    pub fn before(&self) -> &State {
        self.state
    }

    /// An object's fields.
    pub fn row(&self, class: &str, reference: &str) -> Result<&Row> {
        let class = self::class(class)?;
        let invalid = || ApiError::handle_invalid(&class.name, reference);
        match self.rows.get(&(class.name.as_str(), reference.to_owned())) {
            Some(row) => row.as_ref().ok_or_else(invalid),
            None => Ok(&self.state.object(&class.name, reference)?.row),
        }
    }

    /// A field.
    pub fn field(&self, class: &str, reference: &str, field: &str) -> Result<&Value> {
        let found = self.row(class, reference)?.get(field);
        found.ok_or_else(|| ApiError::internal(format!("{class} has no stored field {field}")))
    }

    /// A field that is text.
    pub fn text(&self, class: &str, reference: &str, field: &str) -> Result<&str> {
        Ok(self.field(class, reference, field)?.text().unwrap_or_default())
    }

    /// References to all objects of a class.
    pub fn all(&self, class: &str) -> Result<BTreeSet<String>> {
        let class = self::class(class)?.name.as_str();
        let mut all: BTreeSet<String> = self.state.objects(class).map(|(r, _)| r.clone()).collect();
        for ((_, reference), row) in self.rows.iter().filter(|((c, _), _)| *c == class) {
            if row.is_some() {
                all.insert(reference.clone())
            } else {
                all.remove(reference)
            };
        }
        Ok(all)
    }

    /// Those that refer to an object through a field.
    pub fn referring(&self, target: &str, class: &str, field: &str) -> Result<Vec<String>> {
        let mut found = Vec::new();
        let old = self.state.referring(target, class, field).cloned();
        let own = self.rows.keys().filter(|(c, _)| *c == class).map(|(_, r)| r.clone());
        for reference in old.chain(own).collect::<BTreeSet<_>>() {
            if self
                .row(class, &reference)
                .is_ok_and(|row| row.get(field).and_then(Value::text) == Some(target))
            {
                found.push(reference);
            }
        }
        Ok(found)
    }

    /// Changes a field.
    pub fn set(&mut self, class: &str, reference: &str, field: &str, value: impl Into<Value>) -> Result<()> {
        let value = value.into();
        if *self.field(class, reference, field)? == value {
            return Ok(());
        }
        let mut row = self.row(class, reference)?.clone();
        row.insert(field.to_owned(), value);
        self.put(self::class(class)?, reference, Some(row));
        Ok(())
    }

    fn put(&mut self, class: &'static Class, reference: &str, row: Option<Row>) {
        self.rows.insert((class.name.as_str(), reference.to_owned()), row);
    }

    /// Makes an object with these fields, the others as the model has them; it gets a number and a reference if it is given none.
    pub fn insert(&mut self, class: &str, fields: Row) -> Result<String> {
        let class = self::class(class)?;
        let mut row = Row::new();
        for field in class.fields.iter().filter(|f| f.from.is_none()) {
            let value = match fields.get(&field.name) {
                Some(value) => field.kind.accept(model(), &field.name, value.clone())?,
                None => field.default.clone().unwrap_or_else(|| field.kind.empty()),
            };
            row.insert(field.name.clone(), value);
        }
        let uuid = match row.get("uuid").and_then(Value::text) {
            Some(uuid) if !uuid.is_empty() => uuid.to_owned(),
            _ => random_uuid()?,
        };
        // The reference of a session is a secret, so its number, which is none, must not tell it.
        let reference =
            format!("OpaqueRef:{}", if class.name == "session" { random_uuid()? } else { uuid.clone() });
        if self.row(&class.name, &reference).is_ok() {
            return Err(ApiError::internal(format!("there is a {} {uuid} already", class.name)));
        }
        row.insert("uuid".into(), Value::String(uuid));
        self.put(class, &reference, Some(row));
        Ok(reference)
    }

    /// Makes an object of a record that a client sent: only what clients may give.
    pub fn construct(class_name: &str, record: &Value) -> Result<Row> {
        let class = self::class(class_name)?;
        let mut fields = Row::new();
        for field in &class.fields {
            let may = matches!(field.access, Access::Constructor(_) | Access::ReadWrite(_));
            if !may || field.name == "uuid" {
                continue;
            }
            match record.get(&field.name) {
                Some(value) => {
                    let value = field.kind.accept(model(), &field.name, value.clone())?;
                    fields.insert(field.name.clone(), value);
                }
                None if field.default.is_none() => return Err(ApiError::field_type(&field.name)),
                None => {}
            }
        }
        Ok(fields)
    }

    /// Removes an object.
    pub fn remove(&mut self, class: &str, reference: &str) -> Result<()> {
        self.row(class, reference)?;
        self.put(self::class(class)?, reference, None);
        Ok(())
    }

    /// Makes an event of an object that has not changed.
    pub fn touch(&mut self, class: &str, reference: &str) -> Result<()> {
        self.row(class, reference)?;
        self.touched.insert((self::class(class)?.name.as_str(), reference.to_owned()));
        Ok(())
    }

    pub(super) fn finish(mut self) -> Changes {
        let mut rows = Vec::new();
        for ((name, reference), row) in std::mem::take(&mut self.rows) {
            let Some(class) = model().class(name) else { continue };
            let old = self.state.object(name, &reference).ok().map(|o| &o.row);
            if old == row.as_ref() {
                continue;
            }
            self.touch_targets(class, old, row.as_ref());
            let lasting = !class.volatile && kept(old) != kept(row.as_ref());
            rows.push(RowChange { class, reference, row, lasting });
        }
        Changes { rows, touched: self.touched }
    }

    /// Objects that list this one change when it begins or ends to refer to them.
    fn touch_targets(&mut self, class: &'static Class, old: Option<&Row>, new: Option<&Row>) {
        for field in links_of(&class.name) {
            let target =
                |row: Option<&Row>| row.and_then(|r| r.get(field)).and_then(Value::text).map(str::to_owned);
            let (was, is) = (target(old), target(new));
            let Some(Kind::Ref(to)) = class.field(field).map(|f| &f.kind) else { continue };
            if was == is {
                continue;
            }
            for target in [was, is].into_iter().flatten().filter(|t| t != NULL) {
                self.touched.insert((to.as_str(), target));
            }
        }
    }
}

/// What of a row is for the disk.
fn kept(row: Option<&Row>) -> Option<Vec<(&String, &Value)>> {
    row.map(|r| r.iter().filter(|(name, _)| Change::is_kept(name)).collect())
}

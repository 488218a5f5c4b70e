//! All objects, as they are between two transactions.

use super::change::Changes;
use radon_api::{ApiError, Class, NULL, Result, Value, model};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

/// Fields of an object by name, those that follow from other objects left out.
pub type Row = BTreeMap<String, Value>;

/// An object.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its fields.
    pub row: Row,
    /// Number of the transaction that made it.
    pub created: u64,
    /// Number of the last one that changed it.
    pub modified: u64,
}

/// An object that is no more.
#[derive(Clone, Debug)]
pub struct Gone {
    /// Its class.
    pub class: &'static Class,
    /// Its reference.
    pub reference: String,
    /// Number of the transaction that made it.
    pub created: u64,
    /// Number of the one that removed it.
    pub removed: u64,
}

/// How many removed objects are remembered.
const MOST_GONE: usize = 20_000;

/// All objects.
pub struct State {
    objects: HashMap<&'static str, BTreeMap<String, Object>>,
    /// By reference: who refers to it, by class and field.
    links: HashMap<String, BTreeMap<(&'static str, &'static str), BTreeSet<String>>>,
    gone: VecDeque<Gone>,
    number: u64,
    /// What was removed up to this number is not remembered.
    forgotten: u64,
}

/// Fields of a class through which its objects are listed at others.
pub(super) fn links_of(class: &str) -> impl Iterator<Item = &'static str> {
    let all = model().classes.iter().flat_map(|c| &c.fields).filter_map(|f| f.from.as_ref());
    all.filter(move |(from, _)| from == class).map(|(_, field)| field.as_str())
}

impl State {
    pub(super) fn new(number: u64) -> Self {
        Self {
            objects: HashMap::new(),
            links: HashMap::new(),
            gone: VecDeque::new(),
            number,
            forgotten: number,
        }
    }

    /// Number of the last transaction.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// What was removed up to this number may be unknown.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Objects of a class.
    pub fn objects(&self, class: &str) -> impl Iterator<Item = (&String, &Object)> {
        self.objects.get(class).into_iter().flatten()
    }

    /// How many there are.
    pub fn count(&self, class: &str) -> usize {
        self.objects.get(class).map_or(0, BTreeMap::len)
    }

    /// Objects that are no more, oldest first.
    pub fn gone(&self) -> impl Iterator<Item = &Gone> {
        self.gone.iter()
    }

    /// An object.
    pub fn object(&self, class: &str, reference: &str) -> Result<&Object> {
        let found = self.objects.get(class).and_then(|all| all.get(reference));
        found.ok_or_else(|| ApiError::handle_invalid(class, reference))
    }

    /// A field that is stored.
    pub fn field(&self, class: &str, reference: &str, field: &str) -> Result<&Value> {
        let row = &self.object(class, reference)?.row;
        row.get(field).ok_or_else(|| ApiError::internal(format!("{class} has no stored field {field}")))
    }

    /// A field that is text.
    pub fn text(&self, class: &str, reference: &str, field: &str) -> Result<&str> {
        Ok(self.field(class, reference, field)?.text().unwrap_or_default())
    }

    /// Objects of a class that refer to this one through a field.
    pub fn referring(&self, reference: &str, class: &str, field: &str) -> impl Iterator<Item = &String> {
        let lists = self.links.get(reference).into_iter().flatten();
        lists.filter(move |(from, _)| **from == (class, field)).flat_map(|(_, references)| references)
    }

    /// The object of that number.
    pub fn by_uuid(&self, class: &str, uuid: &str) -> Option<&String> {
        let wanted = Some(uuid);
        self.objects(class).find(|(_, o)| o.row.get("uuid").and_then(Value::text) == wanted).map(|(r, _)| r)
    }

    /// All that may be read of an object, what follows from others included.
    pub fn record(&self, class: &'static Class, reference: &str) -> Result<Row> {
        let object = self.object(&class.name, reference)?;
        let readable = class.fields.iter().filter(|f| f.access != radon_api::Access::Hidden);
        Ok(readable.map(|f| (f.name.clone(), self.value(class, f, reference, object))).collect())
    }

    /// One field, as it is read.
    pub fn value(&self, class: &Class, field: &radon_api::Field, reference: &str, object: &Object) -> Value {
        if let Some((from, through)) = &field.from {
            return Value::strings(self.referring(reference, from, through).cloned());
        }
        if field.name == "allowed_operations" {
            return crate::messages::allowed(self, class, &object.row);
        }
        object.row.get(&field.name).cloned().unwrap_or_else(|| field.kind.empty())
    }

    pub(super) fn put(&mut self, class: &'static Class, reference: &str, row: Row) {
        let all = self.objects.entry(class.name.as_str()).or_default();
        let number = self.number;
        let created = all.get(reference).map_or(number, |o| o.created);
        let object = Object { row, created, modified: number };
        let links: Vec<_> = links_of(&class.name)
            .map(|field| (field, object.row.get(field).and_then(Value::text).unwrap_or(NULL).to_owned()))
            .collect();
        let old = all.insert(reference.to_owned(), object);
        if let Some(old) = old {
            self.unlink(class, reference, &old.row);
        }
        for (field, target) in links.into_iter().filter(|(_, target)| target != NULL) {
            let lists = self.links.entry(target).or_default();
            lists.entry((class.name.as_str(), field)).or_default().insert(reference.to_owned());
        }
    }

    fn unlink(&mut self, class: &'static Class, reference: &str, row: &Row) {
        for field in links_of(&class.name) {
            let target = row.get(field).and_then(Value::text).unwrap_or(NULL);
            let Some(lists) = self.links.get_mut(target) else { continue };
            if let Some(references) = lists.get_mut(&(class.name.as_str(), field)) {
                references.remove(reference);
                if references.is_empty() {
                    lists.remove(&(class.name.as_str(), field));
                }
            }
            if lists.is_empty() {
                self.links.remove(target);
            }
        }
    }

    pub(super) fn apply(&mut self, changes: Changes) {
        self.number += 1;
        for change in changes.rows {
            match change.row {
                Some(row) => self.put(change.class, &change.reference, row),
                None => self.remove(change.class, change.reference),
            }
        }
        for (class, reference) in changes.touched {
            if let Some(object) = self.objects.get_mut(class).and_then(|all| all.get_mut(&reference)) {
                object.modified = self.number;
            }
        }
    }

    fn remove(&mut self, class: &'static Class, reference: String) {
        let old = self.objects.get_mut(class.name.as_str()).and_then(|all| all.remove(&reference));
        let Some(old) = old else { return };
        self.unlink(class, &reference, &old.row);
        if class.silent {
            return;
        }
        self.gone.push_back(Gone { class, reference, created: old.created, removed: self.number });
        if self.gone.len() > MOST_GONE
            && let Some(oldest) = self.gone.pop_front()
        {
            self.forgotten = oldest.removed;
        }
    }
}

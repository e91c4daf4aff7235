//! What a template sees: any serialisable type as a tree of values.
//!
//! A [`Value`] keeps what JSON loses: a structure's fields stay in their order, and a structure is
//! told from a map, as Go prints and looks them up in different ways. [`Value::of`] makes one by
//! serde; serialised again it is the same JSON as the original.

use std::fmt;

use crate::sorted::SortedMap;
use serde::ser::{self, Serialize, SerializeMap as _, SerializeStruct as _, Serializer};

/// A value as a template sees it.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing: `null`, an absent option.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i128),
    /// Any other number.
    Float(f64),
    /// Text.
    Text(String),
    /// A slice.
    List(Vec<Self>),
    /// A map: keys are data.
    Map(SortedMap<String, Self>),
    /// A structure: names are known beforehand and keep their order.
    Struct(Vec<(&'static str, Self)>),
    /// A field that takes a key, as `.Label "com.example.role"`: what Go has as a method. Only a
    /// template sees it.
    Method(SortedMap<String, String>),
}

/// A type that cannot be shown: a map whose keys are no text, or what its own code refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ValueOfError(String);

impl Value {
    /// A structure with the fields of another after its own; anything else is left as it is.
    #[must_use]
    pub fn with(mut self, more: Self) -> Self {
        if let (Self::Struct(fields), Self::Struct(more)) = (&mut self, more) {
            fields.extend(more);
        }
        self
    }

    /// The value of anything that can be serialised.
    ///
    /// # Errors
    /// Only for maps with keys that are no text or number, and what a type's own code refuses.
    pub fn of(value: &impl Serialize) -> Result<Self, ValueOfError> {
        value.serialize(Builder)
    }

    /// Whether a template takes it for true: Go's rule, everything but the empty value.
    #[must_use]
    pub fn is_true(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Bool(value) => *value,
            Self::Int(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Text(value) => !value.is_empty(),
            Self::List(values) => !values.is_empty(),
            Self::Map(values) => !values.is_empty(),
            Self::Struct(_) | Self::Method(_) => true,
        }
    }
}

/// As Go's `%v` prints it, with the names of a structure's fields: `[a b]`, `map[k:v]`, `{A:1}`.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("<nil>"),
            Self::Bool(value) => value.fmt(f),
            Self::Int(value) => value.fmt(f),
            Self::Float(value) => value.fmt(f),
            Self::Text(value) => f.write_str(value),
            Self::List(values) => {
                f.write_str("[")?;
                spaced(f, values.iter(), |f, value| value.fmt(f))?;
                f.write_str("]")
            }
            Self::Map(values) => {
                f.write_str("map[")?;
                spaced(f, values.iter(), |f, (key, value)| write!(f, "{key}:{value}"))?;
                f.write_str("]")
            }
            Self::Struct(fields) => {
                f.write_str("{")?;
                spaced(f, shown(fields), |f, (name, value)| write!(f, "{name}:{value}"))?;
                f.write_str("}")
            }
            Self::Method(_) => f.write_str("a key is wanted"),
        }
    }
}

/// The fields of a structure that are no methods.
fn shown<'a>(
    fields: &'a [(&'static str, Value)],
) -> impl Iterator<Item = &'a (&'static str, Value)> {
    fields.iter().filter(|(_, value)| !matches!(value, Value::Method(_)))
}

fn spaced<T>(
    f: &mut fmt::Formatter<'_>,
    items: impl Iterator<Item = T>,
    write: impl Fn(&mut fmt::Formatter<'_>, T) -> fmt::Result,
) -> fmt::Result {
    for (index, item) in items.enumerate() {
        if index > 0 {
            f.write_str(" ")?;
        }
        write(f, item)?;
    }
    Ok(())
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Int(value) => match (i64::try_from(*value), u64::try_from(*value)) {
                (Ok(value), _) => serializer.serialize_i64(value),
                (_, Ok(value)) => serializer.serialize_u64(value),
                _ => serializer.serialize_i128(*value),
            },
            Self::Float(value) => serializer.serialize_f64(*value),
            Self::Text(value) => serializer.serialize_str(value),
            Self::List(values) => serializer.collect_seq(values),
            Self::Map(values) => {
                let mut map = serializer.serialize_map(Some(values.len()))?;
                for (key, value) in values {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
            Self::Struct(fields) => {
                let mut fields_out = serializer.serialize_struct("", shown(fields).count())?;
                for (name, value) in shown(fields) {
                    fields_out.serialize_field(name, value)?;
                }
                fields_out.end()
            }
            Self::Method(_) => serializer.serialize_unit(),
        }
    }
}

impl ser::Error for ValueOfError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

/// Makes a [`Value`] of what serde tells about a type.
struct Builder;

/// A slice, map or structure in the making. A variant of an enumeration that carries data is, as
/// in JSON, a structure of one field, the variant's name.
struct Compound<T> {
    variant: Option<&'static str>,
    parts: T,
}

type ListBuilder = Compound<Vec<Value>>;
type MapBuilder = Compound<(SortedMap<String, Value>, Option<String>)>;
type StructBuilder = Compound<Vec<(&'static str, Value)>>;

impl<T> Compound<T> {
    fn new(variant: Option<&'static str>, parts: T) -> Self {
        Self { variant, parts }
    }
}

fn in_variant(variant: Option<&'static str>, value: Value) -> Value {
    match variant {
        None => value,
        Some(name) => Value::Struct(vec![(name, value)]),
    }
}

/// Methods of a serializer that take a number which an `i128` holds.
macro_rules! whole_numbers {
    ($($method:ident($type:ty)),*) => {
        $(fn $method(self, value: $type) -> Result<Value, ValueOfError> {
            Ok(Value::Int(value.into()))
        })*
    };
}

impl Serializer for Builder {
    type Ok = Value;
    type Error = ValueOfError;
    type SerializeSeq = ListBuilder;
    type SerializeTuple = ListBuilder;
    type SerializeTupleStruct = ListBuilder;
    type SerializeTupleVariant = ListBuilder;
    type SerializeMap = MapBuilder;
    type SerializeStruct = StructBuilder;
    type SerializeStructVariant = StructBuilder;

    whole_numbers!(
        serialize_i8(i8),
        serialize_i16(i16),
        serialize_i32(i32),
        serialize_i64(i64),
        serialize_i128(i128),
        serialize_u8(u8),
        serialize_u16(u16),
        serialize_u32(u32),
        serialize_u64(u64)
    );

    fn serialize_bool(self, value: bool) -> Result<Value, ValueOfError> {
        Ok(Value::Bool(value))
    }

    fn serialize_f32(self, value: f32) -> Result<Value, ValueOfError> {
        Ok(Value::Float(value.into()))
    }

    fn serialize_f64(self, value: f64) -> Result<Value, ValueOfError> {
        Ok(Value::Float(value))
    }

    fn serialize_char(self, value: char) -> Result<Value, ValueOfError> {
        Ok(Value::Text(value.into()))
    }

    fn serialize_str(self, value: &str) -> Result<Value, ValueOfError> {
        Ok(Value::Text(value.to_owned()))
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<Value, ValueOfError> {
        Ok(Value::List(value.iter().map(|byte| Value::Int((*byte).into())).collect()))
    }

    fn serialize_none(self) -> Result<Value, ValueOfError> {
        Ok(Value::Null)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Value, ValueOfError> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<Value, ValueOfError> {
        Ok(Value::Null)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<Value, ValueOfError> {
        Ok(Value::Null)
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<Value, ValueOfError> {
        Ok(Value::Text(variant.to_owned()))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<Value, ValueOfError> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Value, ValueOfError> {
        Ok(in_variant(Some(variant), value.serialize(self)?))
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<ListBuilder, ValueOfError> {
        Ok(Compound::new(None, Vec::new()))
    }

    fn serialize_tuple(self, _: usize) -> Result<ListBuilder, ValueOfError> {
        Ok(Compound::new(None, Vec::new()))
    }

    fn serialize_tuple_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<ListBuilder, ValueOfError> {
        Ok(Compound::new(None, Vec::new()))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<ListBuilder, ValueOfError> {
        Ok(Compound::new(Some(variant), Vec::new()))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<MapBuilder, ValueOfError> {
        Ok(Compound::new(None, (SortedMap::new(), None)))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<StructBuilder, ValueOfError> {
        Ok(Compound::new(None, Vec::new()))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<StructBuilder, ValueOfError> {
        Ok(Compound::new(Some(variant), Vec::new()))
    }
}

impl ListBuilder {
    fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), ValueOfError> {
        self.parts.push(value.serialize(Builder)?);
        Ok(())
    }

    fn finish(self) -> Value {
        in_variant(self.variant, Value::List(self.parts))
    }
}

/// The four traits of slices and tuples, which differ in one method's name.
macro_rules! list_of {
    ($($trait:ident::$method:ident),*) => {
        $(impl ser::$trait for ListBuilder {
            type Ok = Value;
            type Error = ValueOfError;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), ValueOfError> {
                self.push(value)
            }

            fn end(self) -> Result<Value, ValueOfError> {
                Ok(self.finish())
            }
        })*
    };
}

list_of!(
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field
);

impl ser::SerializeMap for MapBuilder {
    type Ok = Value;
    type Error = ValueOfError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), ValueOfError> {
        let key = match key.serialize(Builder)? {
            Value::Text(key) => key,
            Value::Int(key) => key.to_string(),
            _ => return Err(ValueOfError("a map's key is neither text nor number".into())),
        };
        self.parts.1 = Some(key);
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), ValueOfError> {
        if let Some(key) = self.parts.1.take() {
            self.parts.0.insert(key, value.serialize(Builder)?);
        }
        Ok(())
    }

    fn end(self) -> Result<Value, ValueOfError> {
        Ok(in_variant(self.variant, Value::Map(self.parts.0)))
    }
}

/// The two traits of structures, which differ in name only.
macro_rules! struct_of {
    ($($trait:ident),*) => {
        $(impl ser::$trait for StructBuilder {
            type Ok = Value;
            type Error = ValueOfError;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), ValueOfError> {
                self.parts.push((name, value.serialize(Builder)?));
                Ok(())
            }

            fn end(self) -> Result<Value, ValueOfError> {
                Ok(in_variant(self.variant, Value::Struct(self.parts)))
            }
        })*
    };
}

struct_of!(SerializeStruct, SerializeStructVariant);

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Serialize as Derive;

    #[derive(Derive)]
    #[serde(rename_all = "PascalCase")]
    struct Pool {
        subnet: &'static str,
        gateway: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        ip_range: Option<&'static str>,
    }

    #[derive(Derive)]
    enum Driver {
        Bridge,
        Remote(&'static str),
        At { x: u8 },
        Pair(u8, i8),
    }

    const POOL: Pool =
        Pool { subnet: "192.168.100.0/24", gateway: "192.168.100.1", ip_range: None };

    #[test]
    fn a_structure_keeps_its_order_and_is_no_map() {
        let text = Value::of(&[POOL]).unwrap().to_string();
        assert_eq!(text, "[{Subnet:192.168.100.0/24 Gateway:192.168.100.1}]");
        let map = SortedMap::from([("b", vec![1, 2]), ("a", vec![])]);
        assert_eq!(Value::of(&map).unwrap().to_string(), "map[a:[] b:[1 2]]");
    }

    #[test]
    fn serialised_again_it_is_the_same_json() {
        let all = (
            POOL,
            [Driver::Bridge, Driver::Remote("x"), Driver::At { x: 7 }, Driver::Pair(1, -1)],
            (true, -7, u64::MAX, 1.5, 'c', Some("s"), None::<u8>, ()),
            SortedMap::from([(1, "number")]),
            b"bytes",
        );
        let value = Value::of(&all).unwrap();
        let json = |value: &Value| serde_json::to_string(value).unwrap();
        assert_eq!(json(&value), serde_json::to_string(&all).unwrap());
        assert_eq!(Value::of(&value).unwrap(), value);
    }

    #[test]
    fn keys_must_be_text() {
        let error = Value::of(&SortedMap::from([((1, 2), 3)])).unwrap_err();
        assert_eq!(error.to_string(), "a map's key is neither text nor number");
    }

    #[test]
    fn the_empty_value_is_false() {
        for (value, is_true) in [
            (Value::Null, false),
            (Value::Bool(true), true),
            (Value::Int(0), false),
            (Value::Float(0.5), true),
            (Value::Text(String::new()), false),
            (Value::List(vec![Value::Null]), true),
            (Value::Map(SortedMap::new()), false),
            (Value::Struct(vec![]), true),
        ] {
            assert_eq!(value.is_true(), is_true, "{value:?}");
        }
    }
}

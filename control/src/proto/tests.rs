//! Others depend on every number here: istiod, the CNI agent, and whoever stands in their place.

use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    FileDescriptorSet,
};

/// Every message with its fields, every enum with its values, every method.
const PINNED: &str = include_str!("pinned.txt");

#[test]
fn every_field_has_its_number_and_type() {
    let compiled = include_bytes!(concat!(env!("OUT_DIR"), "/messages.bin"));
    let files = FileDescriptorSet::decode(&compiled[..]).unwrap();
    let ours = files.file.iter().filter(|file| !file.package().starts_with("google."));
    let mut told: Vec<String> = ours.flat_map(told_by).collect();
    told.sort();
    let mut pinned: Vec<&str> = PINNED.lines().filter(|line| !line.is_empty()).collect();
    pinned.sort();
    assert_eq!(told, pinned);
}

fn told_by(file: &FileDescriptorProto) -> Vec<String> {
    let package = match file.package() {
        "" => String::new(),
        package => format!(".{package}"),
    };
    let mut told = Vec::new();
    for message in &file.message_type {
        told.extend(told_by_message(&package, message));
    }
    told.extend(file.enum_type.iter().map(|each| told_by_enum(&package, each)));
    for service in &file.service {
        told.extend(service.method.iter().map(|method| {
            let stream = |is_stream| if is_stream { "stream " } else { "" };
            format!(
                "{package}.{}/{}: {}{} to {}{}",
                service.name(),
                method.name(),
                stream(method.client_streaming()),
                method.input_type(),
                stream(method.server_streaming()),
                method.output_type()
            )
        }));
    }
    told
}

fn told_by_message(package: &str, message: &DescriptorProto) -> Vec<String> {
    let name = format!("{package}.{}", message.name());
    let fields: Vec<String> =
        message.field.iter().map(|field| told_by_field(message, field)).collect();
    let mut told = vec![format!("{name} {{ {} }}", fields.join("; "))];
    for nested in &message.nested_type {
        told.extend(told_by_message(&name, nested));
    }
    told.extend(message.enum_type.iter().map(|each| told_by_enum(&name, each)));
    told
}

fn told_by_field(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let kind = match field.r#type() {
        Type::Message | Type::Enum => field.type_name().to_owned(),
        plain => plain.as_str_name().trim_start_matches("TYPE_").to_lowercase(),
    };
    let how = match field.label() {
        Label::Repeated => "repeated ",
        _ if field.proto3_optional() => "optional ",
        _ => "",
    };
    let one_of = match field.oneof_index {
        Some(index) if !field.proto3_optional() => {
            format!(" of {}", message.oneof_decl[index as usize].name())
        }
        _ => String::new(),
    };
    format!("{}{one_of}: {how}{kind} = {}", field.name(), field.number())
}

fn told_by_enum(package: &str, each: &EnumDescriptorProto) -> String {
    let values = each.value.iter().map(|value| format!("{} = {}", value.name(), value.number()));
    format!("{package}.{} {{ {} }}", each.name(), values.collect::<Vec<_>>().join("; "))
}

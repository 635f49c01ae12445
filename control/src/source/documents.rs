//! Goes through the documents of a file and gives each to whoever understands its kind.
//!
//! Two forms are told apart by their keys, as they come: an object has `apiVersion` and `kind`; ztunnel's local file has
//! `workloads`, `services` and `policies`. Their long lists, like the `items` of a `List`, are read element by element,
//! so that one document may hold the whole mesh.

use super::chunks::Chunks;
use super::context::Context;
use super::diagnostics::suggest::did_you_mean;
use super::diagnostics::{FileId, Place, Problem, Reporter};
use super::gateway;
#[cfg(feature = "waypoint")]
use super::kinds::PolicyKind;
use super::kinds::{Kind, kind_of};
use super::kubernetes;
use super::local::{self, LocalObjects};
use super::node::{NodeDocument, node};
use super::objects::{
    NamespaceObject, ServiceAccountObject, ServiceObject, Unreadable, WorkloadObject,
};
#[cfg(feature = "waypoint")]
use super::policy;
use super::security::{self, Authorization};
use super::sift::Sift;
use super::world::World;
use super::yaml::fields::expected;
use super::yaml::reader::{Abandoned, Reader};
use super::yaml::report_duplicate;
use super::yaml::text::Files;
use super::yaml::value::{Content, Key, Value};

/// Everything the files of a load say.
pub(crate) struct Documents {
    pub(crate) context: Context,
    pub(crate) objects: Objects,
    pub(crate) local: LocalObjects,
    pub(crate) world: World,
    /// Where only some of the objects are wanted.
    pub(crate) sift: Option<Sift>,
}

/// Everything that was read.
#[derive(Default)]
pub(crate) struct Objects {
    pub(crate) nodes: Vec<NodeDocument>,
    pub(crate) namespaces: Vec<NamespaceObject>,
    pub(crate) accounts: Vec<ServiceAccountObject>,
    pub(crate) services: Vec<ServiceObject>,
    pub(crate) workloads: Chunks<WorkloadObject>,
    pub(crate) authorizations: Vec<security::AuthorizationObject>,
    pub(crate) peer_authentications: Vec<security::PeerAuthenticationObject>,
    pub(crate) gateway: gateway::GatewayObjects,
    #[cfg(feature = "waypoint")]
    pub(crate) policies: policy::PolicyObjects,
    pub(crate) unreadable: Unreadable,
}

/// A list of the top level that is read element by element.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    Items,
    Workloads,
    Services,
    Policies,
}

const SECTIONS: &[(&str, Section)] = &[
    ("items", Section::Items),
    ("workloads", Section::Workloads),
    ("services", Section::Services),
    ("policies", Section::Policies),
];

impl Documents {
    /// Reads all files.
    pub(crate) fn read(
        files: &Files,
        world: World,
        sift: Option<Sift>,
        reporter: &mut Reporter,
    ) -> Documents {
        let mut documents = Documents {
            context: Context::default(),
            objects: Objects::default(),
            local: LocalObjects::default(),
            world,
            sift,
        };
        for file in files.ids() {
            match files.characters(file) {
                Ok(characters) => {
                    let reader = Reader::new(file, characters);
                    documents.file(files, file, reader, reporter);
                }
                Err(message) => {
                    documents.objects.unreadable.files = true;
                    reporter.report(Problem::error(Place::whole(file), message));
                }
            }
        }
        documents
    }

    fn file(
        &mut self,
        files: &Files,
        file: FileId,
        mut reader: Reader<'_>,
        reporter: &mut Reporter,
    ) {
        let mut found = false;
        while reader.next_document(reporter) {
            let mut document = Document { documents: self, files, file, reader: &mut reader };
            match document.read(reporter) {
                Ok(something) => found |= something,
                Err(Abandoned) => {
                    found = true;
                    if !reader.skip_document() {
                        break;
                    }
                }
            }
        }
        if let Some(sift) = &mut self.sift {
            sift.end_of_file(found);
        } else if !found && !reporter.has_errors_in(file) {
            let place = Place { file, line: 1, column: 1, width: 1 };
            reporter.report(Problem::error(place, "there is nothing in this file"));
        }
    }
}

/// One document that is being read.
struct Document<'d, 't> {
    documents: &'d mut Documents,
    files: &'d Files,
    file: FileId,
    reader: &'d mut Reader<'t>,
}

impl Document<'_, '_> {
    /// `false`: the document is empty.
    fn read(&mut self, reporter: &mut Reporter) -> Result<bool, Abandoned> {
        if !self.reader.at_mapping() {
            let value = self.reader.value(reporter)?;
            if let Some(sift) = self.documents.sift.as_mut().filter(|_| !value.is_null()) {
                sift.no_object();
            } else if !value.is_null() {
                expected("an object, which is a mapping", &value, reporter);
            }
            return Ok(!value.is_null());
        }
        let place = self.reader.enter(reporter)?;
        let mut entries = Vec::new();
        let mut sections = Vec::new();
        let read = self.mapping(&mut entries, &mut sections, reporter);
        let value = Value { place, tag: None, content: Content::Mapping(entries) };
        if let Err(Abandoned) = read {
            self.documents.objects.give_up(&value);
            return Err(Abandoned);
        }
        match sections.first() {
            Some((Section::Items, _)) => check_list(&value, &sections, reporter),
            Some(_) => check_local(&value, &sections, reporter),
            None if self.documents.sift.is_none() && is_local(&value) => {
                check_local(&value, &sections, reporter);
            }
            None => self.object(&value, reporter),
        }
        Ok(true)
    }

    /// Reads what can be read; that is worth something even when a syntax error follows.
    fn mapping(
        &mut self,
        entries: &mut Vec<(Key, Value)>,
        sections: &mut Vec<(Section, Key)>,
        reporter: &mut Reporter,
    ) -> Result<(), Abandoned> {
        while let Some(key) = self.reader.key(reporter)? {
            report_if_given(&key, entries, sections, reporter);
            match self.section(&key, entries) {
                Some(section) => {
                    sections.push((section, key));
                    self.section_elements(section, reporter)?;
                }
                None => {
                    let value = self.reader.value(reporter)?;
                    entries.push((key, value));
                }
            }
        }
        Ok(())
    }

    /// A key that would be a section is none in an object that already said what it is.
    fn section(&mut self, key: &Key, entries: &[(Key, Value)]) -> Option<Section> {
        let section = SECTIONS.iter().find(|(name, _)| **name == *key.text)?.1;
        let kind = entries.iter().find(|(key, _)| &*key.text == "kind").map(|(_, kind)| kind);
        let is_list =
            kind.is_none_or(|kind| kind.text().is_some_and(|kind| kind.ends_with("List")));
        let is_object = entries.iter().any(|(key, _)| matches!(&*key.text, "apiVersion" | "kind"));
        let applies = match section {
            Section::Items => is_list,
            // Where objects are sifted, other documents are somebody else's.
            _ => !is_object && self.documents.sift.is_none(),
        };
        (applies && self.reader.at_sequence()).then_some(section)
    }

    fn section_elements(
        &mut self,
        section: Section,
        reporter: &mut Reporter,
    ) -> Result<(), Abandoned> {
        self.reader.tags = section == Section::Policies;
        self.reader.enter(reporter)?;
        while self.reader.more(reporter)? {
            let value = self.reader.value(reporter)?;
            let Documents { local, world, .. } = &mut *self.documents;
            match section {
                Section::Items => self.object(&value, reporter),
                Section::Workloads => local::workload(&value, local, world, reporter),
                Section::Services => local::service(&value, local, reporter),
                Section::Policies => local::policy(&value, local, reporter),
            }
        }
        self.reader.tags = false;
        Ok(())
    }

    fn object(&mut self, value: &Value, reporter: &mut Reporter) {
        let Some(mut sift) = self.documents.sift.take() else {
            self.understand(value, reporter);
            return;
        };
        if let Some(wanted) = sift.take(value) {
            let before = self.documents.objects.count();
            let understood = self.understand(&wanted, reporter);
            let adds = self.documents.objects.count() > before;
            if understood {
                sift.keep(&wanted, adds);
            }
        }
        self.documents.sift = Some(sift);
    }

    fn understand(&mut self, value: &Value, reporter: &mut Reporter) -> bool {
        let understood =
            kind_of(value, reporter).and_then(|kind| self.of_kind(kind, value, reporter));
        if understood.is_none() {
            self.documents.objects.give_up(value);
        }
        understood.is_some()
    }

    /// `None`: it could not be read, which was reported.
    fn of_kind(&mut self, kind: Kind, value: &Value, reporter: &mut Reporter) -> Option<()> {
        let Documents { context, objects, .. } = self.documents;
        match kind {
            Kind::Namespace => {
                objects.namespaces.push(kubernetes::namespace(value, context, reporter)?);
            }
            Kind::Node => {
                let directory = self.files.directory(self.file);
                objects.nodes.push(node(value, directory, context, reporter)?);
            }
            Kind::Pod => {
                if let Some((name, pod)) = kubernetes::pod(value, context, reporter)? {
                    objects.workloads.push(&name, pod);
                }
            }
            Kind::Service => {
                objects.services.extend(kubernetes::service(value, context, reporter)?)
            }
            Kind::WorkloadEntry => {
                let (name, entry) = kubernetes::workload_entry(value, context, reporter)?;
                objects.workloads.push(&name, entry);
            }
            Kind::ServiceEntry => {
                let entry = kubernetes::service_entry(value, context, reporter)?;
                objects.services.extend(entry.services);
                for (name, endpoint) in entry.endpoints {
                    objects.workloads.push(&name, endpoint);
                }
            }
            Kind::EndpointSlice => {
                for (name, endpoint) in kubernetes::endpoint_slice(value, context, reporter)? {
                    objects.workloads.push(&name, endpoint);
                }
            }
            Kind::ServiceAccount => {
                objects.accounts.push(kubernetes::service_account(value, context, reporter)?);
            }
            Kind::AuthorizationPolicy => {
                match security::authorization_policy(value, context, reporter)? {
                    Authorization::OfWorkloads(policy) => objects.authorizations.push(policy),
                    #[cfg(feature = "waypoint")]
                    Authorization::Attached(policy) => objects.policies.authorizations.push(policy),
                    Authorization::Nothing => {}
                }
            }
            Kind::PeerAuthentication => {
                let object = security::peer_authentication(value, context, reporter)?;
                objects.peer_authentications.push(object);
            }
            #[cfg(feature = "waypoint")]
            Kind::Policy(PolicyKind::RequestAuthentication) => {
                let object = policy::request_authentication(value, context, reporter)?;
                objects.policies.authentications.push(object);
            }
            #[cfg(feature = "waypoint")]
            Kind::Policy(PolicyKind::RateLimit) => {
                let object = policy::rate_limit_policy(value, context, reporter)?;
                objects.policies.rate_limits.push(object);
            }
            #[cfg(feature = "waypoint")]
            Kind::Policy(PolicyKind::Fault) => {
                let object = policy::fault_policy(value, context, reporter)?;
                objects.policies.faults.push(object);
            }
            #[cfg(feature = "waypoint")]
            Kind::Policy(PolicyKind::DestinationRule) => {
                let directory = self.files.directory(self.file);
                let object = policy::destination_rule(value, directory, context, reporter)?;
                objects.policies.traffic.push(object);
            }
            #[cfg(feature = "waypoint")]
            Kind::Policy(PolicyKind::BackendTraffic) => {
                let object = policy::backend_traffic_policy(value, context, reporter)?;
                objects.policies.backend_traffic.push(object);
            }
            #[cfg(feature = "waypoint")]
            Kind::Policy(PolicyKind::MeshConfig) => {
                let providers = policy::mesh_config(value, context, reporter)?;
                objects.policies.providers.extend(providers);
            }
            // Of waypoints, and this program is none.
            #[cfg(not(feature = "waypoint"))]
            Kind::Policy(_) => {}
            Kind::Gateway(kind) => {
                let directory = self.files.directory(self.file);
                gateway::read(kind, value, directory, context, &mut objects.gateway, reporter)?;
            }
        }
        Some(())
    }
}

impl Objects {
    /// How many things there are that somebody acts on.
    fn count(&self) -> usize {
        self.workloads.len() + self.services.len()
    }

    /// Remembers what could not be read, as far as its name is known.
    fn give_up(&mut self, value: &Value) {
        let metadata = value.get("metadata");
        let part = |key| metadata.and_then(|metadata| metadata.get(key)).and_then(Value::text);
        match part("name") {
            Some(name) => {
                let namespace = part("namespace").unwrap_or("default");
                self.unreadable.names.push((namespace.into(), name.into()));
            }
            None => self.unreadable.nameless = true,
        }
    }
}

fn report_if_given(
    key: &Key,
    entries: &[(Key, Value)],
    sections: &[(Section, Key)],
    reporter: &mut Reporter,
) {
    let keys = entries.iter().map(|(key, _)| key).chain(sections.iter().map(|(_, key)| key));
    if let Some(first) = keys.into_iter().find(|first| first.text == key.text) {
        report_duplicate(key, first.place, reporter);
    }
}

/// Whether it has a key of ztunnel's local file, though not with a list under it, and is no object.
fn is_local(value: &Value) -> bool {
    let has = |key| value.get(key).is_some();
    !has("apiVersion") && !has("kind") && (has("workloads") || has("services") || has("policies"))
}

const LIST: &str = "a list of objects";
const LOCAL: &str = "a file of workloads, services and policies";

fn check_list(value: &Value, sections: &[(Section, Key)], reporter: &mut Reporter) {
    for (key, _) in value.entries().unwrap_or_default() {
        if !matches!(&*key.text, "apiVersion" | "kind" | "metadata") {
            report_misplaced(key, LIST, reporter);
        }
    }
    for (_, key) in sections.iter().filter(|(section, _)| *section != Section::Items) {
        report_misplaced(key, LIST, reporter);
    }
}

fn check_local(value: &Value, sections: &[(Section, Key)], reporter: &mut Reporter) {
    for (key, value) in value.entries().unwrap_or_default() {
        match &*key.text {
            "workloads" | "services" | "policies" if value.is_null() => {}
            "workloads" | "services" | "policies" => expected("a list", value, reporter),
            _ => report_misplaced(key, LOCAL, reporter),
        }
    }
    for (_, key) in sections.iter().filter(|(section, _)| *section == Section::Items) {
        report_misplaced(key, LOCAL, reporter);
    }
}

fn report_misplaced(key: &Key, what: &str, reporter: &mut Reporter) {
    let help = did_you_mean(&key.text, SECTIONS.iter().map(|(name, _)| *name));
    let message = format!("unknown key `{}` in {what}", key.text);
    reporter.report(Problem::error(key.place, message).help(help));
}

//! What the native API offers, as an OpenAPI document: made of the routes themselves and of the types that travel.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Router,
    http::header,
    routing::{MethodRouter, get, post},
};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        Components, ContentBuilder, HttpMethod, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, PathItem, Paths,
        Ref, RefOr, Required, ResponseBuilder, Schema,
        path::{OperationBuilder, ParameterBuilder, ParameterIn},
        request_body::RequestBodyBuilder,
        schema::{SchemaType, Type},
    },
};

use super::{ACCOUNT_HEADER, Api, ErrorBody, PREFIX, REGION_HEADER, handler};
use crate::control::{Mutation, Operation, Query};

/// Where the document is served.
pub const PATH: &str = "/openapi.json";

const JSON: &str = "application/json";

/// Routes and their description, which are made together, so that there is none without the other.
#[derive(Default)]
pub struct Surface {
    router: Router<Arc<Api>>,
    paths: Paths,
    schemas: BTreeMap<String, RefOr<Schema>>,
    /// Names that two types have, which would be one schema.
    clashes: Vec<String>,
}

impl Surface {
    /// An operation that changes the state and is decided on it alone.
    pub fn mutation<M: Mutation + Sync>(self) -> Self {
        self.handled::<M>(post(handler::mutation::<M>))
    }

    /// An operation that only reads the state.
    pub fn query<Q: Query + Sync>(self) -> Self {
        self.handled::<Q>(post(handler::query::<Q>))
    }

    /// An operation with a handler of its own.
    pub fn handled<O: Operation>(mut self, handler: MethodRouter<Arc<Api>>) -> Self {
        let path = format!("{PREFIX}{}", O::NAME);
        self.add::<O>();
        self.add::<O::Response>();
        let operation = OperationBuilder::new()
            .operation_id(Some(O::NAME))
            .description(description(&O::schema()))
            .parameters(Some([ACCOUNT_HEADER, REGION_HEADER].map(parameter)))
            .request_body(Some(
                RequestBodyBuilder::new()
                    .content(JSON, content(reference::<O>()))
                    .required(Some(Required::True))
                    .build(),
            ))
            .response("200", response("what it answers", reference::<O::Response>()))
            .response("default", response("why it is refused", reference::<ErrorBody>()));
        self.paths.paths.insert(path.clone(), PathItem::new(HttpMethod::Post, operation.build()));
        self.router = self.router.route(&path, handler);
        self
    }

    /// The schema of `T` and of what it is made of.
    fn add<T: ToSchema>(&mut self) {
        let mut found = Vec::new();
        if is_named(&T::schema()) {
            found.push((T::name().into_owned(), T::schema()));
        }
        T::schemas(&mut found);
        for (name, schema) in found {
            match self.schemas.get(&name) {
                Some(known) if *known != schema => self.clashes.push(name),
                Some(_) => {}
                None => drop(self.schemas.insert(name, schema)),
            }
        }
    }

    /// The routes, with one for the document.
    pub fn router(self) -> Router<Arc<Api>> {
        let router = self.router.clone();
        let document: Arc<str> = self.document().to_json().unwrap_or_default().into();
        router.route(PATH, get(async move || ([(header::CONTENT_TYPE, JSON)], document.to_string())))
    }

    /// The names that two types have.
    #[cfg(test)]
    pub fn clashes(&self) -> &[String] {
        &self.clashes
    }

    /// The document.
    pub fn document(mut self) -> OpenApi {
        self.add::<ErrorBody>();
        let Self { router: _, paths, schemas, clashes: _ } = self;
        let mut components = Components::new();
        components.schemas = schemas;
        OpenApiBuilder::new()
            .info(
                InfoBuilder::new()
                    .title("privatelink")
                    .version(env!("CARGO_PKG_VERSION"))
                    .description(Some(
                        "The native API: POST an operation's request to its path on the agent's Unix socket.",
                    ))
                    .license(Some(LicenseBuilder::new().name("MIT OR Apache-2.0").build()))
                    .build(),
            )
            .paths(paths)
            .components(Some(components))
            .build()
    }
}

/// Whether a type is referred to by its name; lists, texts and the like stand where they are used.
fn is_named(schema: &RefOr<Schema>) -> bool {
    match schema {
        RefOr::T(Schema::Object(object)) => {
            !object.properties.is_empty() || object.schema_type == SchemaType::Type(Type::Object)
        }
        RefOr::T(Schema::OneOf(_) | Schema::AllOf(_) | Schema::AnyOf(_)) => true,
        RefOr::T(_) | RefOr::Ref(_) => false,
    }
}

fn reference<T: ToSchema>() -> RefOr<Schema> {
    let schema = T::schema();
    if is_named(&schema) { RefOr::Ref(Ref::from_schema_name(T::name())) } else { schema }
}

fn content(schema: RefOr<Schema>) -> utoipa::openapi::Content {
    ContentBuilder::new().schema(Some(schema)).build()
}

fn response(description: &str, schema: RefOr<Schema>) -> utoipa::openapi::Response {
    ResponseBuilder::new().description(description).content(JSON, content(schema)).build()
}

/// A header that says whose resources a request is about.
fn parameter(name: &str) -> utoipa::openapi::path::Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .description(Some("Whose resources the request is about; without it, the agent's default."))
        .schema(Some(String::schema()))
        .build()
}

/// What the type says of itself.
fn description(schema: &RefOr<Schema>) -> Option<String> {
    match schema {
        RefOr::T(Schema::Object(object)) => object.description.clone(),
        RefOr::T(_) | RefOr::Ref(_) => None,
    }
}

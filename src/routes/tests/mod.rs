//! Tests of the routes as a whole: the HTTP layer that all share, and the document of all.

mod bounds;
mod connections;
mod http_layer;
mod openapi;
mod toy_service;

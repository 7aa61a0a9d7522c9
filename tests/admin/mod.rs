//! The administration of a daemon over its Unix socket and over TCP.

mod command_line;
mod dead_letters;
mod flows;
mod models;
mod security;
mod system;
mod watching;

//! What all that listen have in common: TLS as a server, with certificates that change while it runs, and how many connections there are.
//!
//! The administration of the daemon and the inputs that listen both need it. Neither may know the other, and neither should need a client of
//! HTTP to listen: so it is a crate of its own, below both.
//!
//! * [`ServerTls`]: the settings of a node that listens. [`TlsFiles`]: the files that they name, which become what rustls is to do.
//! * [`Tls`]: takes connections with the files as they were last read, and reads them again.
//! * [`Connections`]: those that are open, of which idle ones give way to others.
//! * [`Rates`]: how often something may come from an address.
//! * [`Doors`]: where this process listens; a service manager may keep that open while the process is started again.
//! * [`names_of`]: by which names a certificate knows a client.

mod connections;
mod doors;
mod files;
mod names;
mod pem;
mod rates;
mod reload;
mod settings;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

pub use connections::{Activity, Busy, Connections};
pub use doors::{Door, Doors, Manager, Socket, doors};
pub use files::{Clients, TlsFiles};
pub use names::{CertificateNames, names_of};
pub use pem::{certificates, private_key, unreadable};
pub use rates::{Allowance, Rates};
pub use reload::{Encrypted, Tls};
pub use settings::ServerTls;

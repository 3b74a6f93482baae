//! A throwaway PostgreSQL for `benches/compare`, with an Odoo in it, until standard input ends.
//!
//! `serve FILESTORE [SETTING=VALUE …]` makes the databases `odoo`, which holds the sample at a small
//! scale, and `empty`, and then prints one line of JSON: their URLs over the Unix socket, the password
//! for TCP, where the server's programs are.

use std::{env, error::Error, io, path::PathBuf};

use arkstream_sample::{OdooOptions, OdooSample, Server, ServerOptions};
use serde_json::json;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let filestore = PathBuf::from(arguments.next().ok_or("no folder for the filestore")?);
    let extra_settings = arguments
        .map(|setting| {
            let (name, value) = setting.split_once('=').ok_or("a setting has a value")?;
            Ok((name.to_owned(), value.to_owned()))
        })
        .collect::<Result<_, &str>>()?;
    let server = Server::start(ServerOptions {
        extra_settings,
        ..ServerOptions::default()
    })?;
    for database in ["odoo", "empty"] {
        server.create_database(database)?;
    }
    let client = server.superuser_connect("odoo").await?;
    OdooSample::build(&client, OdooOptions::new(&filestore)).await?;
    drop(client);
    let told = json!({
        "odoo": server.conninfo("odoo"),
        "empty": server.conninfo("empty"),
        "socket": server.socket_dir(),
        "port": server.port(),
        "password": server.password(),
        "bin": server.bin_dir(),
        "major": server.major(),
        "pid": server.pid(),
    });
    println!("{told}");
    // Whoever started it is gone when the pipe is.
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(())
}

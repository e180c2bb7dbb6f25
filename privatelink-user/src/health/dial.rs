//! Connections of the agent's own sockets through the host port.

use std::{io, net::SocketAddr};

use privatelink_ebpf::wire::proxy_v2;
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpSocket, TcpStream},
};

/// Opens connections by one device, whatever the host's routes say.
#[derive(Clone, Debug, Default)]
pub struct Dialer {
    /// The host end of the host port; `None` uses the host's routes.
    pub device: Option<String>,
    /// Begin with the PROXY protocol header of a connection that is the load balancer's own: command LOCAL.
    pub proxy_protocol: bool,
}

impl Dialer {
    /// Connects to `address`. The caller sets the deadline.
    ///
    /// # Errors
    ///
    /// What the kernel says to `socket`, `SO_BINDTODEVICE` (needs `CAP_NET_RAW` before kernel 5.7) or `connect`.
    pub async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        if let Some(device) = &self.device {
            socket.bind_device(Some(device.as_bytes()))?;
        }
        let mut stream = socket.connect(address).await?;
        if self.proxy_protocol {
            stream.write_all(&proxy_v2::LOCAL).await?;
        }
        Ok(stream)
    }
}
